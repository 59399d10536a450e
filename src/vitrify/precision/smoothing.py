"""Outlier channels of activations moved into weights, where a scale a channel costs nothing.

`x W = (x / s) (s W)` for any scale a channel. Dividing happens where it is free: in the gain and shift of the LayerNorm
before, or in the columns of V, whose channels the attention only averages. After an activation function it takes a
multiplication more, and is done where it pays. Xiao et al., "SmoothQuant", arXiv:2211.10438, equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vitrify.graphs import GraphIndex
from vitrify.precision.linear import FloatArray, LinearLayer, matrix, replace_weight
from vitrify.precision.observing import Observed
from vitrify.precision.qdq import QuantizedType, weight_scales

STRENGTHS = (0.35, 0.5, 0.65, 0.8)
"""Exponents that are tried: how much of the spread goes from the activation into the weights."""

_PAYS_INSIDE = 0.95
_PAYS_AFTER_ACTIVATION = 0.5
"""The error left, relative to none, that makes smoothing worth it: much less where it takes a multiplication."""

_ROWS = 256
"""Of the sample that strengths are compared on."""

Place = Literal["norm", "values", "multiplication"]


@dataclass(frozen=True, kw_only=True)
class Smoothed:
    """A layer whose input was smoothed.

    Attributes:
        module: Of the layer.
        strength: The exponent.
        place: Where the division went.
        error_ratio: Squared error of the layer's output on the sample, after by before.
    """

    module: str
    strength: float
    place: Place
    error_ratio: float


def smooth(
    proto: onnx.ModelProto,
    layers: Sequence[LinearLayer],
    observed: Mapping[str, Observed],
    kind: QuantizedType,
) -> tuple[tuple[Smoothed, ...], dict[str, Observed]]:
    """Smooths the inputs of layers in place, each with the strength that leaves the least error.

    Args:
        proto: The graph; what it computes stays the same but for rounding.
        layers: Those that are to be quantised.
        observed: Their activations.
        kind: To what they will be quantised.

    Returns:
        What was smoothed, and the activations after it.
    """
    after = dict(observed)
    done: list[Smoothed] = []
    readers: dict[str, list[LinearLayer]] = {}
    for layer in layers:
        readers.setdefault(layer.activation, []).append(layer)
    for tensor, sharing in readers.items():
        index = GraphIndex(proto.graph)
        if len(index.read_by.get(tensor, [])) != len(sharing):
            continue  # somebody else reads it as it is
        if any(len(index.read_by[layer.weight]) != 1 for layer in sharing):
            continue  # another layer has the same matrix
        place = _place(index, sharing)
        strength, ratio, scales = _best(index, sharing, observed[tensor], kind)
        if scales is None or ratio > (_PAYS_AFTER_ACTIVATION if place == "multiplication" else _PAYS_INSIDE):
            continue
        for layer in sharing:
            weights = matrix(index, layer) * scales[:, None]
            replace_weight(index, layer.weight, weights.T if layer.transposed else weights)
        _divide(proto.graph, index, sharing, place, scales)
        after[tensor] = observed[tensor].divided_by(scales)
        done += [Smoothed(module=layer.module, strength=strength, place=place, error_ratio=ratio) for layer in sharing]
    return tuple(done), after


def _best(
    index: GraphIndex, layers: Sequence[LinearLayer], seen: Observed, kind: QuantizedType
) -> tuple[float, float, FloatArray | None]:
    weights = np.concatenate([matrix(index, layer) for layer in layers], axis=1)
    rows = seen.sample[:_ROWS]
    truth = rows @ weights
    before = _error(rows, seen.channels, weights, truth, kind)
    best: tuple[float, float, FloatArray | None] = (0.0, 1.0, None)
    for strength in STRENGTHS:
        scales = smoothing_scales(seen.channels, weights, strength)
        after = _error(rows / scales, seen.channels / scales, weights * scales[:, None], truth, kind)
        if before > 0 and after / before < best[1]:
            best = strength, after / before, scales
    return best


def smoothing_scales(channels: FloatArray, weights: FloatArray, strength: float) -> FloatArray:
    """`s_j = max|x_j|^a / max|W_j|^(1 - a)`, `[channels]`: powers of two, so that moving them rounds nothing.

    Args:
        channels: Largest magnitude of each channel of the activation.
        weights: `[channels, outputs]`.
        strength: `a`, 0 to 1.
    """
    rows = np.abs(weights).max(axis=1)
    usable = (channels > 0) & (rows > 0)
    ratio = np.where(usable, channels, 1) ** strength / np.where(usable, rows, 1) ** (1 - strength)
    ratio /= np.exp(np.log(ratio).mean())  # only the spread matters; this keeps magnitudes where they were
    return np.asarray(np.where(usable, np.exp2(np.clip(np.rint(np.log2(ratio)), -12, 12)), 1), np.float32)


def _error(
    rows: FloatArray, channels: FloatArray, weights: FloatArray, truth: FloatArray, kind: QuantizedType
) -> float:
    scale = float(channels.max()) / kind.largest or 1.0
    product = kind.rounded(rows, scale) @ kind.rounded(weights, weight_scales(weights, kind))
    return float(((product - truth).astype(np.float64) ** 2).mean())


def _place(index: GraphIndex, layers: Sequence[LinearLayer]) -> Place:
    if _gain_and_shift(index, layers[0].activation) is not None:
        return "norm"
    if len(layers) == 1 and _value_columns(index, layers[0]) is not None:
        return "values"
    return "multiplication"


def _gain_and_shift(index: GraphIndex, tensor: str) -> tuple[str, ...] | None:
    """The constants of the LayerNorm that makes a tensor, where nothing else reads them; whole or in steps."""
    node = index.made_by.get(tensor)
    if node is None:
        return None
    if node.op_type == "LayerNormalization":
        names = tuple(node.input[1:])
    else:
        shift = _constant_operand(index, node, "Add")
        scaled = next((index.made_by.get(name) for name in node.input if name != shift), None)
        gain = _constant_operand(index, scaled, "Mul") if shift and scaled is not None else None
        if gain is None or shift is None or index.only_reader(scaled.output[0] if scaled else "") is not node:
            return None
        names = gain, shift
    width = {tuple(index.weights[name].dims) for name in names if name in index.weights}
    free = all(len(index.read_by.get(name, [])) == 1 for name in names)
    return names if free and len(width) == 1 and all(name in index.weights for name in names) else None


def _constant_operand(index: GraphIndex, node: onnx.NodeProto | None, kind: str) -> str | None:
    if node is None or node.op_type != kind:
        return None
    return next((name for name in node.input if name in index.weights and len(index.weights[name].dims) == 1), None)


def _value_columns(index: GraphIndex, proj: LinearLayer) -> tuple[str, ...] | None:
    """Weight and bias of the qkv layer whose last third becomes this layer's input, head by head: timm's layout."""
    if not proj.module.endswith(".attn.proj"):
        return None
    stem = proj.module.removesuffix("proj")
    product = next((n for n in index.graph.node if n.name.startswith(f"{stem}qkv/") and n.op_type == "MatMul"), None)
    if product is None or product.input[1] not in index.weights:
        return None
    if any(stem in node.name and "norm" in node.name for node in index.graph.node):
        return None  # something between, such as a norm of the attention's result
    reader = index.only_reader(product.output[0])
    bias = _constant_operand(index, reader, "Add")
    if bias is None and (reader is None or reader.op_type != "Reshape"):  # a layer without a bias is fine
        return None
    names = (product.input[1],) if bias is None else (product.input[1], bias)
    if list(index.weights[product.input[1]].dims) != [proj.inputs, 3 * proj.inputs]:
        return None
    return names if all(len(index.read_by[name]) == 1 for name in names) else None


def _divide(
    graph: onnx.GraphProto, index: GraphIndex, layers: Sequence[LinearLayer], place: Place, scales: FloatArray
) -> None:
    if place == "norm":
        for name in _gain_and_shift(index, layers[0].activation) or ():
            replace_weight(index, name, numpy_helper.to_array(index.weights[name]) / scales)
        return
    if place == "values":
        for name in _value_columns(index, layers[0]) or ():
            values = numpy_helper.to_array(index.weights[name]).copy()
            values[..., -len(scales) :] /= scales
            replace_weight(index, name, values)
        return
    tensor = layers[0].activation
    smoothed, factor = f"{tensor}_smoothed", f"{tensor}_smoothing"
    graph.initializer.append(numpy_helper.from_array(1 / scales, factor))
    # Readers find it under the old name: ranges and layers are looked up by it.
    maker = index.made_by[tensor]
    maker.output[list(maker.output).index(tensor)] = smoothed
    position = next(number for number, node in enumerate(graph.node) if node.name == maker.name)
    name = f"{maker.name.rpartition('/')[0]}/Mul_smoothing"
    graph.node.insert(position + 1, helper.make_node("Mul", [smoothed, factor], [tensor], name=name))
