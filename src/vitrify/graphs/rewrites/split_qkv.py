"""One product for queries, keys and values taken apart into three; what the graph computes stays the same.

timm multiplies once and slices. Around an 8-bit product, TensorRT moves those slices through it, and then computes it
in 16 bits; three products with one input it joins again, in 8 bits. Of the exporters' forms, dynamo's is known; the
tracer's, whose shapes are computed, stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vitrify.graphs import GraphIndex, Rewrite, drop_unread

_APART, _FIRST = (2, 0, 3, 1, 4), 0
"""timm's order: [B, tokens, 3, heads, width] to [3, B, heads, tokens, width], and the axis that is sliced."""


@dataclass(kw_only=True)
class Joined:
    """A product whose result, biased or not, is given another shape; the check adds what it finds after it."""

    product: onnx.NodeProto
    add: onnx.NodeProto | None
    reshape: onnx.NodeProto
    bias: str = ""
    shape: tuple[int, ...] = ()
    """Of each of the three: batch, tokens, heads, width."""

    results: dict[int, str] = field(default_factory=dict)
    """Queries, keys and values."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)

    @property
    def module(self) -> str:
        """Of the product, such as `blocks.3.attn.qkv`."""
        return self.product.name.rpartition("/")[0]


class SplitQkv(Rewrite[Joined]):
    """Takes every joined product apart."""

    def pattern(self) -> Iterator[Joined]:
        """Products with a constant matrix whose result, biased or not, is given another shape."""
        for node in self.graph.node:
            if node.op_type != "MatMul" or node.input[1] not in self.index.weights:
                continue
            reader = self.index.only_reader(node.output[0])
            add = reader if reader is not None and reader.op_type == "Add" else None
            reshape = self.index.only_reader(add.output[0]) if add is not None else reader
            if reshape is not None and reshape.op_type == "Reshape":
                yield Joined(product=node, add=add, reshape=reshape)

    def check(self, place: Joined) -> str:
        """It has to be timm's form, to the last slice."""
        name, index = place.product.name, self.index
        if place.add is not None:
            place.bias = next((name for name in place.add.input if name in index.weights), "")
            if not place.bias or len(index.weights[place.bias].dims) != 1:
                return f"what is added to {name} is no constant bias"
        shape = index.constant(place.reshape.input[1])
        if shape is None:
            return f"the shape that {name} is given is computed"
        if len(shape) != 5 or shape[2] != 3:
            return f"{name} is given the shape {shape.tolist()}, not [batch, tokens, 3, heads, width]"
        place.shape = (int(shape[0]), int(shape[1]), int(shape[3]), int(shape[4]))
        transpose = index.only_reader(place.reshape.output[0])
        order = {a.name: tuple(a.ints) for a in transpose.attribute} if transpose is not None else {}
        if transpose is None or transpose.op_type != "Transpose" or order.get("perm") != _APART:
            return f"the axes of {name} do not become [3, batch, heads, tokens, width]"
        place.nodes = [place.product, *([place.add] if place.add is not None else []), place.reshape, transpose]
        for slicer in index.read_by.get(transpose.output[0], []):
            found = _sliced(index, slicer)
            if found is None:
                return f"{slicer.name} takes something else than queries, keys or values out of {name}"
            which, result, taken = found
            place.results[which] = result
            place.nodes += taken
        return "" if sorted(place.results) == [0, 1, 2] else f"only some of queries, keys and values of {name} are read"

    def rewrite(self, places: Sequence[Joined]) -> None:
        """Three products where one was."""
        for place in places:
            position = list(self.graph.node).index(place.product)
            for old in place.nodes:
                self.graph.node.remove(old)
            for number, new in enumerate(self._three(place)):
                self.graph.node.insert(position + number, new)
        if places:
            drop_unread(self.graph)

    def _three(self, place: Joined) -> Iterator[onnx.NodeProto]:
        source, matrix = place.product.input
        weight = numpy_helper.to_array(self.index.weights[matrix])
        width = weight.shape[1] // 3
        stem, module = place.product.output[0], place.module
        heads = module.removesuffix(".qkv")
        shape = f"{stem}_heads"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(place.shape, np.int64), shape))
        for number, letter in enumerate("qkv"):
            columns = slice(number * width, (number + 1) * width)
            tensor = f"{stem}_{letter}"
            self._constant(f"{matrix}_{letter}", weight[:, columns])
            yield helper.make_node("MatMul", [source, f"{matrix}_{letter}"], [tensor], name=f"{module}/MatMul_{letter}")
            if place.bias:
                added = f"{place.bias}_{letter}"
                self._constant(added, numpy_helper.to_array(self.index.weights[place.bias])[columns])
                yield helper.make_node("Add", [tensor, added], [f"{tensor}_biased"], name=f"{module}/Add_{letter}")
                tensor = f"{tensor}_biased"
            split = f"{stem}_{letter}_heads"
            yield helper.make_node("Reshape", [tensor, shape], [split], name=f"{heads}/Reshape_{letter}")
            yield helper.make_node(
                "Transpose", [split], [place.results[number]], name=f"{heads}/Transpose_{letter}", perm=[0, 2, 1, 3]
            )

    def _constant(self, name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))


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
