from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vitrify.spec import FP32_GATE, Gate
from vitrify.verification import Logits, check_logits

ROWS = hnp.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32))


def check(reference: Logits, candidate: Logits, gate: Gate = FP32_GATE):  # type: ignore[no-untyped-def]
    return check_logits(reference, candidate, gate=gate, runtime="r", precision="fp32", inputs="random", batch=3)


@given(ROWS, ROWS)
def test_passes_exactly_when_numpys_allclose_and_argmax_say_so(reference: Logits, candidate: Logits) -> None:
    result = check(reference, candidate)
    close = np.allclose(candidate.astype(np.float64), reference.astype(np.float64), rtol=1e-3, atol=1e-4)
    same = (reference.argmax(1) == candidate.argmax(1)).all()
    assert result.passed == bool(close and same)
    assert result.max_absolute_error == pytest.approx(np.abs(reference.astype(np.float64) - candidate).max())
    assert result.count == 3


@given(ROWS)
def test_equal_is_perfect(reference: Logits) -> None:
    result = check(reference, reference)
    assert result.passed
    assert (result.max_absolute_error, result.gate_use, result.top1_agreement) == (0, 0, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_passes(value: float) -> None:
    good = np.ones((2, 3), np.float32)
    bad = good.copy()
    bad[1, 2] = value
    loose = Gate(absolute=1e9, relative=1e9, top1_agreement=0)
    assert not check(good, bad, loose).passed
    assert not check(bad, good, loose).passed


def test_a_flipped_answer_fails_however_small_the_error() -> None:
    reference = np.asarray([[1.0, 1.00001]], np.float32)
    candidate = np.asarray([[1.00001, 1.0]], np.float32)
    result = check(reference, candidate)
    assert result.gate_use < 1
    assert result.top1_agreement == 0
    assert not result.passed


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        check(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
