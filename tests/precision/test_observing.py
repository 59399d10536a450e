"""Ranges against brute force and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrify.graphs.rewrites.qdq import FP8, INT8
from vitrify.precision.observing import Calibrator, choose_range

BINS = 2048
CALIBRATORS: tuple[Calibrator, ...] = ("mse", "max")


def histogram(values: np.ndarray) -> tuple[np.ndarray, float]:
    top = float(np.abs(values).max())
    return np.histogram(np.abs(values), bins=BINS, range=(0, top))[0], top


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_a_range_lies_within_what_was_seen(calibrator: Calibrator, seed: int, spread: float) -> None:
    counts, top = histogram(np.random.default_rng(seed).standard_normal(3000) * spread)
    for kind in (INT8, FP8):
        assert 0 < choose_range(counts, top, kind, calibrator) <= top * (1 + 1e-9)


def test_least_squares_is_what_trying_every_range_finds() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.standard_normal(100_000), [60.0, -45.0]]).astype(np.float32)
    counts, top = histogram(values)

    def error(limit: float) -> float:
        step = limit / 127
        return float(np.square(np.clip(np.rint(values / step), -127, 127) * step - values.astype(np.float64)).sum())

    tried = np.linspace(1, top, 400)
    chosen = choose_range(counts, top, INT8, "mse")
    assert error(chosen) < 1.05 * min(map(error, tried))
    assert error(chosen) < 0.75 * error(top)


def test_rare_outliers_are_cut_off_and_nothing_else() -> None:
    rng = np.random.default_rng(4)
    usual, outliers = rng.standard_normal(100_000), np.full(3, 20.0)
    counts, top = histogram(np.concatenate([usual, outliers]))
    assert 2 < choose_range(counts, top, INT8, "mse") < 0.9 * top
    counts, top = histogram(rng.uniform(-1, 1, 100_000))
    assert choose_range(counts, top, INT8, "mse") > 0.9


def test_what_was_never_seen_keeps_its_top() -> None:
    assert choose_range(np.zeros(BINS, np.int64), 0.0, INT8, "mse") == 0.0
