"""How much of which outlier channels goes into the weights: what leaves the least error, where that pays.

Xiao et al., "SmoothQuant", arXiv:2211.10438, equation 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from vitrify.graphs import LOGGER, FloatArray, GraphIndex, LinearLayer, matrix
from vitrify.graphs.rewrites.qdq import QuantizedType
from vitrify.graphs.rewrites.smoothing import Division, Shared, Smoothing
from vitrify.precision.observing import Observed
from vitrify.precision.rounding import weight_scales

STRENGTHS = (0.35, 0.5, 0.65, 0.8)
"""Exponents that are tried: how much of the spread goes from the activation into the weights."""

_PAYS_INSIDE = 0.95
_PAYS_AFTER_ACTIVATION = 0.5
"""The error left, relative to none, that makes smoothing worth it: much less where it takes a multiplication."""

_ROWS = 256
"""Of the sample that strengths are compared on."""


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
    place: Division
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
    after, done, paying = dict(observed), list[Smoothed](), list[Shared]()
    smoothing = Smoothing(proto, layers)
    for shared in smoothing.places():
        tensor, place = shared.tensor, shared.place
        strength, ratio, scales = _best(smoothing.index, shared.layers, observed[tensor], kind)
        if scales is None or ratio > (_PAYS_AFTER_ACTIVATION if place == "multiplication" else _PAYS_INSIDE):
            LOGGER.debug("Smoothing: of the error behind %s, %.2f would be left", tensor, ratio)
            continue
        paying.append(dataclasses.replace(shared, scales=scales))
        after[tensor] = observed[tensor].divided_by(scales)
        done += [
            Smoothed(module=one.module, strength=strength, place=place, error_ratio=ratio) for one in shared.layers
        ]
    smoothing.rewrite(paying)
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
