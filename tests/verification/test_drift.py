"""The meter of differences, and the tolerances that it is held to."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from vitrify.verification import DriftMeter
from vitrify.verification.drift import DRIFT_TOLERANCES


@pytest.mark.parametrize("shape", [(7, 5, 4), (7, 3, 2, 6), (7, 9), (7,)])
def test_a_meter_does_not_care_how_inputs_were_batched(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape))
    truth = rng.standard_normal(shape).astype(np.float32)
    other = truth + rng.standard_normal(shape).astype(np.float32) / 100
    results = []
    for size in (1, 3, 7):
        meter = DriftMeter("part")
        for start in range(0, len(truth), size):
            meter.add(truth[start : start + size], other[start : start + size])
        results.append(meter.result(0.1, before=None))
    for result in results[1:]:
        assert result.relative_error == pytest.approx(results[0].relative_error)
        assert (result.worst_image, result.worst_index) == (results[0].worst_image, results[0].worst_index)
        assert (result.worst_token, result.worst_channel) == (results[0].worst_token, results[0].worst_channel)
    difference = np.abs(other.astype(np.float64) - truth)
    assert results[0].worst_image == np.unravel_index(difference.argmax(), shape)[0]


def test_a_meter_of_zeros_and_of_equals() -> None:
    zeros, ones = np.zeros((2, 3, 4), np.float32), np.ones((2, 3, 4), np.float32)
    for truth, other, relative in ((zeros, zeros, 0), (ones, ones, 0), (zeros, ones, 1)):
        meter = DriftMeter("part")
        meter.add(truth, other)
        assert meter.result(0.1, before=None).relative_error == relative


@pytest.mark.parametrize("largest", [4.0, 10.0])
def test_tolerances_of_8_bits_follow_from_their_steps(largest: float) -> None:
    values = np.random.default_rng(0).standard_normal(100_000).clip(-largest, largest)
    rms = np.sqrt(np.square(values).mean())
    step = largest / 127
    int8 = np.sqrt(np.square(np.rint(values / step) * step - values).mean()) / rms
    assert int8 == pytest.approx(largest / 440, rel=0.02)
    scale = largest / 448
    rounded = (values / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale
    assert np.sqrt(np.square(rounded - values).mean()) / rms == pytest.approx(0.027, rel=0.03)
    layers = np.sqrt(48)
    assert DRIFT_TOLERANCES["int8"] == pytest.approx(layers * np.hypot(4, 10) / 440, rel=0.2)
    assert DRIFT_TOLERANCES["fp8"] == pytest.approx(layers * np.sqrt(2) * 0.027, rel=0.1)
