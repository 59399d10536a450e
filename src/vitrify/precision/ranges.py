"""Which range of an activation 8 bits should cover: all of it, or less, in finer steps."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrify.precision.qdq import QuantizedType

Calibrator = Literal["mse", "max"]

_CANDIDATES = 128


def choose_range(histogram: npt.NDArray[np.int64], top: float, kind: QuantizedType, calibrator: Calibrator) -> float:
    """The largest magnitude that shall be representable.

    Args:
        histogram: `[bins]` counts of magnitudes, in equal bins from 0 to `top`.
        top: Where the last bin ends.
        kind: The 8-bit type.
        calibrator: `mse`: least mean squared error after rounding and clipping. `max`: all.
    """
    if calibrator == "max" or top <= 0 or not histogram.any():
        return top
    return _least_squares(histogram, top, kind)


def _least_squares(histogram: npt.NDArray[np.int64], top: float, kind: QuantizedType) -> float:
    bins = len(histogram)
    centres = ((np.arange(bins) + 0.5) * top / bins).astype(np.float32)
    candidates = top * np.arange(1, _CANDIDATES + 1) / _CANDIDATES
    errors = [
        float((histogram * (kind.rounded(centres, limit / kind.largest) - centres).astype(np.float64) ** 2).sum())
        for limit in candidates
    ]
    return float(candidates[int(np.argmin(errors))])
