"""8-bit weights that no x86 processor can saturate on, with the least error of their layer's output.

The rule is `vitrify.graphs.saturation`'s. It costs little accuracy: a slightly larger step leaves few pairs that break
it, and what is lost by one weight, the others that are multiplied with the same activations make up for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from vitrify.graphs import PAIR_LIMIT, FloatArray, GraphIndex, LinearLayer, matrix
from vitrify.graphs.rewrites.qdq import INT8, QuantizedType, Rounded, storable_scales
from vitrify.progress import SILENT, Progress

LARGEST = 127
"""-128 stays out, so that zero is the middle."""

WIDENINGS = (1.0, 1.2, 1.4, 1.7, 2.0)
"""Of a step, that are tried for each output. At twice the smallest step no pair can break the rule."""

_BLOCK = 64
"""Inputs that are settled before what they changed is handed on to the others in one product."""

_DAMPING = 0.01
"""Of the mean second moment, for a sample of rows is no full measure: Frantar et al., "GPTQ", arXiv:2210.17323."""


def weight_scales(weights: FloatArray, kind: QuantizedType) -> FloatArray:
    """A scale for each output of `[inputs, outputs]` weights, `[outputs]` float32: the largest weight fits just."""
    largest = np.abs(weights).max(axis=0)
    return np.asarray(np.where(largest > 0, largest, 1) / kind.largest, np.float32)


def rounded_weights(
    graph: onnx.GraphProto,
    layers: Sequence[LinearLayer],
    kind: QuantizedType,
    *,
    rows: Mapping[str, FloatArray] | None = None,
    scale_type: npt.DTypeLike = np.float32,
    progress: Progress = SILENT,
) -> dict[str, Rounded]:
    """The weights of layers in 8 bits, by the name of their matrix; int8 ones cannot saturate on any x86 processor.

    Args:
        graph: Has the layers.
        layers: Which.
        kind: To what.
        rows: For each activation that they read, a sample of its rows, `[N, inputs]`.
        scale_type: The float type that scales will have in the file. They are rounded to it before anything is
            quantised by them: rounded afterwards, to bf16 say, every weight would come out up to 0.2% off.
        progress: Told of each layer.
    """
    index = GraphIndex(graph)
    rounded: dict[str, Rounded] = {}
    for layer in progress.track(layers, label="rounding weights"):
        if layer.weight in rounded:
            continue  # another layer has the same matrix
        weights = matrix(index, layer)
        scales = weight_scales(weights, kind)
        if kind is not INT8:
            scales = storable_scales(scales, scale_type)
            rounded[layer.weight] = Rounded(numbers=kind.quantize(weights, scales), scales=scales)
            continue
        seen = None if rows is None else rows[layer.activation]
        scales = storable_scales(widened_scales(weights, scales, seen), scale_type)
        rounded[layer.weight] = Rounded(numbers=round_weights(weights, scales, seen), scales=scales)
    return rounded


def widened_scales(weights: FloatArray, scales: FloatArray, rows: FloatArray | None = None) -> FloatArray:
    """For each output, the step of `WIDENINGS` that leaves the least error when each weight is rounded by itself.

    Args:
        weights: `[inputs, outputs]`.
        scales: `[outputs]`, with which the largest weight becomes 127.
        rows: `[N, inputs]`, a sample of what the layer reads; without, every input counts the same.
    """
    power = np.ones(len(weights), np.float32) if rows is None else np.square(rows).mean(axis=0)
    best, least = scales, np.full(len(scales), np.inf, np.float32)
    for widening in WIDENINGS:
        wider = (scales * np.float32(widening)).astype(np.float32)
        error = power @ np.square(_nearest(weights / wider) * wider - weights)
        best, least = np.where(error < least, wider, best), np.minimum(error, least)
    return best


def round_weights(weights: FloatArray, scales: FloatArray, rows: FloatArray | None = None) -> npt.NDArray[np.int8]:
    """Rounds weights to 8 bits that cannot saturate, with a small squared error of the layer's output.

    One weight after the other takes the best number that its neighbour in the pair leaves it while all others stand, so
    that each step can only lower the error.

    Args:
        weights: `[inputs, outputs]`.
        scales: `[outputs]`, the size of a step.
        rows: `[N, inputs]`, a sample of what the layer reads; without, each weight is rounded by itself.

    Returns:
        `[inputs, outputs]` in -127..127.
    """
    wanted = (weights / scales).astype(np.float32)
    numbers = _nearest(wanted)
    if rows is None:
        return numbers.astype(np.int8)
    moment = (rows.T @ rows) / np.float32(len(rows))
    np.fill_diagonal(moment, moment.diagonal() + np.float32(_DAMPING) * moment.diagonal().mean() + np.float32(1e-30))
    pull = moment @ (wanted - numbers)  # half the gradient of the squared error, downwards
    for start in range(0, len(numbers), _BLOCK):
        block = slice(start, start + _BLOCK)
        before = numbers[block].copy()
        _settle(numbers, pull[block].copy(), moment[block, block], start)
        pull -= moment[:, block] @ (numbers[block] - before)
    return numbers.astype(np.int8)


def _settle(numbers: FloatArray, pull: FloatArray, moment: FloatArray, start: int) -> None:
    for offset in range(len(pull)):
        row = start + offset
        neighbour = numbers[row ^ 1] if row ^ 1 < len(numbers) else np.zeros(1, np.float32)
        highest = np.minimum(LARGEST, PAIR_LIMIT - np.maximum(neighbour, 0))
        lowest = np.maximum(-LARGEST, -PAIR_LIMIT - np.minimum(neighbour, 0))
        chosen = np.clip(np.rint(numbers[row] + pull[offset] / moment[offset, offset]), lowest, highest)
        pull -= np.outer(moment[:, offset], chosen - numbers[row])
        numbers[row] = chosen


def _nearest(wanted: FloatArray) -> FloatArray:
    """The nearest numbers that obey the rule: what a pair has too much, its two weights share."""
    numbers = np.clip(np.rint(np.pad(wanted, [(0, len(wanted) % 2), (0, 0)])), -LARGEST, LARGEST)
    first, second = numbers[0::2], numbers[1::2]
    excess = np.where(first * second > 0, np.maximum(np.abs(first + second) - PAIR_LIMIT, 0), 0)
    sign = np.sign(first)
    first -= sign * np.floor(excess / 2)
    second -= sign * np.ceil(excess / 2)
    return np.asarray(numbers[: len(wanted)], np.float32)
