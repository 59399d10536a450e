"""One product for queries, keys and values taken apart into three.

timm multiplies once and slices. Around an 8-bit product, TensorRT moves those slices through it, and then computes it
in 16 bits; three products with one input it joins again, in 8 bits. Of the exporters' forms, dynamo's is known; the
tracer's, whose shapes are computed, stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vitrify.graphs import GraphIndex, drop_unread

_APART, _FIRST = (2, 0, 3, 1, 4), 0
"""timm's order: [B, tokens, 3, heads, width] to [3, B, heads, tokens, width], and the axis that is sliced."""


@dataclass(frozen=True, kw_only=True)
class _Joined:
    """The nodes of one joined product, from the product to the three tensors."""

    product: onnx.NodeProto
    bias: str
    shape: tuple[int, ...]
    results: tuple[str, str, str]
    nodes: tuple[onnx.NodeProto, ...]


def split_qkv(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Takes every joined product apart, in place; what the graph computes stays the same.

    Args:
        proto: A graph in timm's form.

    Returns:
        Modules of the products that were taken apart. One in another form stays as it is.
    """
    graph = proto.graph
    done: list[str] = []
    for node in [node for node in graph.node if node.op_type == "MatMul"]:
        index = GraphIndex(graph)
        if node.input[1] not in index.weights:
            continue
        joined = _match(index, node)
        if joined is None:
            continue
        position = list(graph.node).index(node)
        for old in joined.nodes:
            graph.node.remove(old)
        for number, new in enumerate(_three(graph, index, joined)):
            graph.node.insert(position + number, new)
        done.append(node.name.rpartition("/")[0])
    drop_unread(graph)
    return tuple(done)


def _match(index: GraphIndex, product: onnx.NodeProto) -> _Joined | None:
    nodes = [product]
    bias = ""
    reader = index.only_reader(product.output[0])
    if reader is not None and reader.op_type == "Add":
        bias = next((name for name in reader.input if name in index.weights), "")
        if not bias or len(index.weights[bias].dims) != 1:
            return None
        nodes.append(reader)
        reader = index.only_reader(reader.output[0])
    shape = index.constant(reader.input[1]) if reader is not None and reader.op_type == "Reshape" else None
    transpose = index.only_reader(reader.output[0]) if reader is not None else None
    if reader is None or shape is None or len(shape) != 5 or shape[2] != 3 or not _apart(transpose):
        return None
    assert transpose is not None
    nodes += [reader, transpose]
    results: dict[int, str] = {}
    for slicer in index.read_by.get(transpose.output[0], []):
        found = _sliced(index, slicer)
        if found is None:
            return None
        which, result, taken = found
        results[which] = result
        nodes += taken
    if sorted(results) != [0, 1, 2]:
        return None
    return _Joined(
        product=product,
        bias=bias,
        shape=(int(shape[0]), int(shape[1]), int(shape[3]), int(shape[4])),
        results=(results[0], results[1], results[2]),
        nodes=tuple(nodes),
    )


def _apart(node: onnx.NodeProto | None) -> bool:
    return (
        node is not None and node.op_type == "Transpose" and tuple(helper.get_node_attr_value(node, "perm")) == _APART
    )


def _sliced(index: GraphIndex, node: onnx.NodeProto) -> tuple[int, str, list[onnx.NodeProto]] | None:
    """Which of the three a node takes out, the tensor without that axis, and the nodes that this took."""
    if node.op_type == "Gather":
        which = index.constant(node.input[1])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        return (
            (int(which), node.output[0], [node]) if which is not None and which.ndim == 0 and axis == _FIRST else None
        )
    squeeze = index.only_reader(node.output[0])
    if node.op_type != "Slice" or squeeze is None or squeeze.op_type != "Squeeze" or len(squeeze.input) < 2:
        return None
    begin, end, axes, dropped = (index.constant(name) for name in (*node.input[1:4], squeeze.input[1]))
    if begin is None or end is None or axes is None or dropped is None:
        return None
    first = [_FIRST]
    if axes.tolist() != first or dropped.tolist() != first or int(end[0]) != int(begin[0]) + 1 or len(node.input) > 4:
        return None
    return int(begin[0]), squeeze.output[0], [node, squeeze]


def _three(graph: onnx.GraphProto, index: GraphIndex, joined: _Joined) -> list[onnx.NodeProto]:
    weight = numpy_helper.to_array(index.weights[joined.product.input[1]])
    bias = numpy_helper.to_array(index.weights[joined.bias]) if joined.bias else None
    width = weight.shape[1] // 3
    stem = joined.product.output[0]
    module = joined.product.name.rpartition("/")[0]
    made: list[onnx.NodeProto] = []
    shape = f"{stem}_heads"
    graph.initializer.append(numpy_helper.from_array(np.asarray(joined.shape, np.int64), shape))
    for number, (letter, result) in enumerate(zip("qkv", joined.results, strict=True)):
        columns = slice(number * width, (number + 1) * width)
        name, tensor = f"{joined.product.input[1]}_{letter}", f"{stem}_{letter}"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weight[:, columns]), name))
        made.append(
            helper.make_node("MatMul", [joined.product.input[0], name], [tensor], name=f"{module}/MatMul_{letter}")
        )
        if bias is not None:
            added = f"{joined.bias}_{letter}"
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(bias[columns]), added))
            made.append(helper.make_node("Add", [tensor, added], [f"{tensor}_biased"], name=f"{module}/Add_{letter}"))
            tensor = f"{tensor}_biased"
        split, heads = f"{stem}_{letter}_heads", module.removesuffix(".qkv")
        made.append(helper.make_node("Reshape", [tensor, shape], [split], name=f"{heads}/Reshape_{letter}"))
        made.append(
            helper.make_node("Transpose", [split], [result], name=f"{heads}/Transpose_{letter}", perm=[0, 2, 1, 3])
        )
    return made
