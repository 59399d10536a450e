"""Quantised weights written back as floats with Q/DQ after them, for readers that know no 8-bit constants."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vitrify.graphs import GraphIndex, copy_of, drop_unread


def with_float_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose int8 weights are float32 constants that QuantizeLinear makes 8-bit again: the same numbers.

    TensorRT 8 reads weights in this form alone. The file gets four times as large.

    Args:
        proto: A graph in which DequantizeLinear reads constants.
    """
    copied = copy_of(proto)
    graph = copied.graph
    index = GraphIndex(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        stored = index.constant(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if stored is not None:
            scale = index.constant(node.input[1])
            assert scale is not None
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            shape = [1] * stored.ndim
            if scale.ndim:
                shape[axis] = -1
            # Exactly what DequantizeLinear gives, so that QuantizeLinear finds the same steps.
            values = stored.astype(np.float32) * scale.astype(np.float32).reshape(shape)
            name = node.output[0]
            graph.initializer.append(numpy_helper.from_array(values, f"{name}_float"))
            quantize = helper.make_node(
                "QuantizeLinear",
                [f"{name}_float", *node.input[1:]],
                [f"{name}_steps"],
                name=node.name.replace("DequantizeLinear", "QuantizeLinear"),
            )
            quantize.attribute.extend(node.attribute)
            nodes.append(quantize)
            node.input[0] = f"{name}_steps"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unread(graph)
    return copied
