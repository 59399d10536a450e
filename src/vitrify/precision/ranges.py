"""Which range of an activation 8 bits should cover: all of it, or less, in finer steps."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrify.precision.qdq import QuantizedType

Calibrator = Literal["max", "percentile", "mse", "entropy"]

PERCENTILE = 99.99
"""As NVIDIA found best on most networks: Wu et al., "Integer quantization for deep learning inference",
arXiv:2004.09602."""

_CANDIDATES = 128


def choose_range(histogram: npt.NDArray[np.int64], top: float, kind: QuantizedType, calibrator: Calibrator) -> float:
    """The largest magnitude that shall be representable.

    Args:
        histogram: `[bins]` counts of magnitudes, in equal bins from 0 to `top`.
        top: Where the last bin ends.
        kind: The 8-bit type.
        calibrator: `max`: all. `percentile`: all but one in ten thousand. `mse`: least mean squared error after
            rounding and clipping. `entropy`: least Kullback-Leibler divergence between what was and what is left
            (Migacz, "8-bit inference with TensorRT", GTC 2017); int8 alone, whose steps are equal.
    """
    if calibrator == "max" or top <= 0 or not histogram.any():
        return top
    if calibrator == "percentile":
        share = np.cumsum(histogram) / histogram.sum()
        return float(top * (np.searchsorted(share, PERCENTILE / 100) + 1) / len(histogram))
    if calibrator == "mse" or kind.name != "int8":
        return _least_squares(histogram, top, kind)
    return _least_divergence(histogram, top, levels=int(kind.largest) + 1)


def _least_squares(histogram: npt.NDArray[np.int64], top: float, kind: QuantizedType) -> float:
    bins = len(histogram)
    centres = ((np.arange(bins) + 0.5) * top / bins).astype(np.float32)
    candidates = top * np.arange(1, _CANDIDATES + 1) / _CANDIDATES
    errors = [
        float((histogram * (kind.rounded(centres, limit / kind.largest) - centres).astype(np.float64) ** 2).sum())
        for limit in candidates
    ]
    return float(candidates[int(np.argmin(errors))])


def _least_divergence(histogram: npt.NDArray[np.int64], top: float, levels: int) -> float:
    bins = len(histogram)
    best, least = bins, np.inf
    for used in range(levels, bins + 1, 8):
        kept = histogram[:used].astype(np.float64)
        clipped = kept.copy()
        clipped[-1] += histogram[used:].sum()  # what is above comes out as the largest number
        # Each level stands for the mean of its bins, those that are empty staying so.
        edges = np.linspace(0, used, levels + 1).astype(int)[:-1]
        sums = np.add.reduceat(kept, edges)
        filled = np.add.reduceat((kept > 0).astype(np.float64), edges)
        width = np.diff(np.append(edges, used))
        left = np.repeat(np.divide(sums, filled, out=np.zeros(levels), where=filled > 0), width) * (kept > 0)
        divergence = _divergence(clipped, left)
        if divergence < least:
            best, least = used, divergence
    return float(top * best / bins)


def _divergence(truth: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    if not other.any():
        return float(np.inf)
    truth, other = truth / truth.sum(), other / other.sum()
    # A number that occurred and cannot occur any more: infinite by the book, merely very bad here.
    other = np.where(other > 0, other, 1e-9)
    where = truth > 0
    return float((truth[where] * np.log(truth[where] / other[where])).sum())
