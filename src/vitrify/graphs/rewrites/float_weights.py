"""Quantised weights written back as floats with Q/DQ after them, for readers that know no 8-bit constants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vitrify.graphs import Rewrite, copy_of, drop_unread


def with_float_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose int8 weights are float32 constants that QuantizeLinear makes 8-bit again: the same numbers.

    TensorRT 8 reads weights in this form alone. The file gets four times as large.

    Args:
        proto: A graph in which DequantizeLinear reads constants.
    """
    copied = copy_of(proto)
    FloatWeights(copied).apply()
    return copied


class FloatWeights(Rewrite[onnx.NodeProto]):
    """Floats and a QuantizeLinear before every DequantizeLinear of a constant."""

    def pattern(self) -> Iterator[onnx.NodeProto]:
        """Every DequantizeLinear of a constant."""
        return (n for n in self.graph.node if n.op_type == "DequantizeLinear" and self.index.is_constant(n.input[0]))

    def check(self, place: onnx.NodeProto) -> str:
        """Its scale has to be known."""
        known = all(self.index.constant(name) is not None for name in place.input[:2])
        return "" if known else f"the numbers or the scale of {place.name or place.output[0]} are not known"

    def rewrite(self, places: Sequence[onnx.NodeProto]) -> None:
        """Exactly what DequantizeLinear gives, so that QuantizeLinear finds the same steps."""
        chosen = {place.output[0] for place in places}
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.node:
            name = node.output[0]
            if name in chosen:
                self.graph.initializer.append(numpy_helper.from_array(self._values(node), f"{name}_float"))
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
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        if places:
            drop_unread(self.graph)

    def _values(self, node: onnx.NodeProto) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        stored, scale = self.index.constant(node.input[0]), self.index.constant(node.input[1])
        assert stored is not None
        assert scale is not None
        shape = [1] * stored.ndim
        if scale.ndim:
            shape[next((a.i for a in node.attribute if a.name == "axis"), 1)] = -1
        return np.asarray(stored.astype(np.float32) * scale.astype(np.float32).reshape(shape))
