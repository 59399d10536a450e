"""Outlier channels of activations moved into weights, where a scale a channel costs nothing.

`x W = (x / s) (s W)` for any scale a channel. Dividing happens where it is free: in the gain and shift of the LayerNorm
before, or in the columns of V, whose channels the attention only averages. After an activation function it takes a
multiplication more. Which scales pay is measured elsewhere; what the graph computes stays the same for any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vitrify.graphs import FloatArray, LinearLayer, Rewrite, matrix, replace_weight

Division = Literal["norm", "values", "multiplication"]
"""Where an activation is divided."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """An activation and the layers that read it.

    Attributes:
        tensor: The activation, `[..., channels]`.
        layers: Those that read it.
        place: Where it can be divided.
        constants: With `norm` and `values`, the constants whose last numbers are divided.
        scales: What each channel is divided by, `[channels]`.
    """

    tensor: str
    layers: tuple[LinearLayer, ...]
    place: Division
    constants: tuple[str, ...]
    scales: FloatArray = field(default_factory=lambda: np.ones(1, np.float32))


class Smoothing(Rewrite[Shared]):
    """Divides activations, and multiplies the weights that read them.

    Args:
        proto: The model.
        layers: Those that may be changed.
    """

    def __init__(self, proto: onnx.ModelProto, layers: Sequence[LinearLayer]) -> None:
        super().__init__(proto)
        self._layers = layers

    def pattern(self) -> Iterator[Shared]:
        """Activations that the layers read."""
        readers: dict[str, list[LinearLayer]] = {}
        for layer in self._layers:
            readers.setdefault(layer.activation, []).append(layer)
        for tensor, sharing in readers.items():
            norm = self._gain_and_shift(tensor)
            values = self._value_columns(sharing[0]) if norm is None and len(sharing) == 1 else None
            place: Division = "norm" if norm is not None else "values" if values is not None else "multiplication"
            yield Shared(tensor=tensor, layers=tuple(sharing), place=place, constants=norm or values or ())

    def check(self, place: Shared) -> str:
        """Nobody else reads the activation or the weights."""
        if len(self.index.read_by.get(place.tensor, [])) != len(place.layers):
            return f"somebody else reads {place.tensor} as it is"
        if place.tensor not in self.index.made_by:
            return f"{place.tensor} is not made in this graph"
        shared = [layer.weight for layer in place.layers if len(self.index.read_by[layer.weight]) != 1]
        return f"another layer has the matrix {shared[0]} too" if shared else ""

    def rewrite(self, places: Sequence[Shared]) -> None:
        """Divides by the scales of each place."""
        for place in places:
            for layer in place.layers:
                weights = matrix(self.index, layer) * place.scales[:, None]
                replace_weight(self.index, layer.weight, weights.T if layer.transposed else weights)
            for name in place.constants:
                values = numpy_helper.to_array(self.index.weights[name]).copy()
                values[..., -len(place.scales) :] /= place.scales
                replace_weight(self.index, name, values)
            if place.place == "multiplication":
                self._multiply(place)

    def _multiply(self, place: Shared) -> None:
        smoothed, factor = f"{place.tensor}_smoothed", f"{place.tensor}_smoothing"
        self.graph.initializer.append(numpy_helper.from_array(1 / place.scales, factor))
        # Readers find it under the old name: ranges and layers are looked up by it.
        maker = self.index.made_by[place.tensor]
        maker.output[list(maker.output).index(place.tensor)] = smoothed
        position = next(number for number, node in enumerate(self.graph.node) if smoothed in node.output)
        name = f"{maker.name.rpartition('/')[0]}/Mul_smoothing"
        self.graph.node.insert(position + 1, helper.make_node("Mul", [smoothed, factor], [place.tensor], name=name))

    def _gain_and_shift(self, tensor: str) -> tuple[str, ...] | None:
        """The constants of the LayerNorm that makes a tensor, where nothing else reads them; whole or in steps."""
        node, index = self.index.made_by.get(tensor), self.index
        if node is None:
            return None
        if node.op_type == "LayerNormalization":
            names = tuple(node.input[1:])
        else:
            shift = self._vector(node, "Add")
            scaled = next((index.made_by.get(name) for name in node.input if name != shift), None)
            gain = self._vector(scaled, "Mul") if shift and scaled is not None else None
            if gain is None or shift is None or index.only_reader(scaled.output[0] if scaled else "") is not node:
                return None
            names = gain, shift
        width = {tuple(index.weights[name].dims) for name in names if name in index.weights}
        free = all(len(index.read_by.get(name, [])) == 1 for name in names)
        return names if free and len(width) == 1 and all(name in index.weights for name in names) else None

    def _vector(self, node: onnx.NodeProto | None, kind: str) -> str | None:
        """The constant vector that a node of a kind works with."""
        if node is None or node.op_type != kind:
            return None
        weights = self.index.weights
        return next((name for name in node.input if name in weights and len(weights[name].dims) == 1), None)

    def _value_columns(self, proj: LinearLayer) -> tuple[str, ...] | None:
        """Weight and bias of the qkv layer whose last third becomes this layer's input, head by head: timm's layout."""
        if not proj.module.endswith(".attn.proj"):
            return None
        stem, index = proj.module.removesuffix("proj"), self.index
        product = next((n for n in self.graph.node if n.name.startswith(f"{stem}qkv/") and n.op_type == "MatMul"), None)
        if product is None or product.input[1] not in index.weights:
            return None
        if any(stem in node.name and "norm" in node.name for node in self.graph.node):
            return None  # something between, such as a norm of the attention's result
        reader = index.only_reader(product.output[0])
        bias = self._vector(reader, "Add")
        if bias is None and (reader is None or reader.op_type != "Reshape"):  # a layer without a bias is fine
            return None
        names = (product.input[1],) if bias is None else (product.input[1], bias)
        if list(index.weights[product.input[1]].dims) != [proj.inputs, 3 * proj.inputs]:
            return None
        return names if all(len(index.read_by[name]) == 1 for name in names) else None
