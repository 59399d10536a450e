"""Who makes and who reads each tensor of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper


class GraphIndex:
    """A graph's wiring, looked up by tensor name.

    It is a picture of the graph at one moment: after nodes were added or removed, make a new one.

    Attributes:
        graph: The graph.
        made_by: The node that makes a tensor.
        read_by: The nodes that read a tensor, in the graph's order.
        weights: Initializers.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.made_by: dict[str, onnx.NodeProto] = {name: node for node in graph.node for name in node.output}
        self.read_by: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.read_by.setdefault(name, []).append(node)
        self.weights: dict[str, onnx.TensorProto] = {weight.name: weight for weight in graph.initializer}

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """The value of an initializer or of a Constant node; None for a tensor that is computed."""
        if name in self.weights:
            return numpy_helper.to_array(self.weights[name])
        node = self.made_by.get(name)
        if node is None or node.op_type != "Constant" or node.attribute[0].name != "value":
            return None
        return np.asarray(numpy_helper.to_array(node.attribute[0].t))

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is an initializer or a Constant node's."""
        node = self.made_by.get(name)
        return name in self.weights or (node is not None and node.op_type == "Constant")

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads a tensor; None where several do, or none, or the graph gives it out."""
        readers = self.read_by.get(name, [])
        given_out = any(value.name == name for value in self.graph.output)
        return readers[0] if len(readers) == 1 and not given_out else None


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a model uses; 0 where it names none."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)


def element_types(proto: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor of a graph, by ONNX's own inference."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    return types | {weight.name: weight.data_type for weight in graph.initializer}


def copy_of(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model of its own, to be changed in place."""
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


def drop_unread(graph: onnx.GraphProto) -> None:
    """Removes initializers and Constant nodes that nobody reads, in place."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [weight for weight in graph.initializer if weight.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in read]:
        graph.node.remove(node)
