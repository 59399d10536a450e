"""Only what is faster than the source, in whatever precision that runs, is taken; and noise is not speed.

Times are told by a clock that the tests set: what a loaded machine would measure decides nothing here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.precision.digits import Digits
from tests.workflows.quantizing import Clock, candidates, config, quantize
from vitrify.errors import GateError
from vitrify.runtimes import has_native_bf16
from vitrify.spec import Attempt, Precision
from vitrify.workflows import racing
from vitrify.workflows.limits import Limits
from vitrify.workflows.racing import Speed, is_rival

RIVALS = ["source fp32", "source bf16"] if has_native_bf16() else ["source fp32"]


@pytest.mark.parametrize(("precision", "speedup"), [("int8", 1.5), ("int8", 0.9), ("fp16", 0.9), ("bf16", 0.9)])
def test_the_rival_is_the_fastest_source(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speedup: float, precision: str
) -> None:
    clock = Clock(*[speedup] * 5)
    monkeypatch.setattr(racing, "take_turns", clock)
    chosen = config(precision, limits=Limits(min_speedup=1.05), fallback=False)
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", chosen)
    (last,) = candidates(result)
    assert clock.raced[-1] == ["candidate", *RIVALS]
    assert last.speedup == pytest.approx(speedup)
    assert (result.path is not None) == (speedup > 1)
    assert last.passed or last.reason == f"0.90 times as fast as the {RIVALS[-1]}, 1.05 asked for"
    assert last.asked == ("bf16" if has_native_bf16() and precision != "fp16" else "fp32")


def test_a_quarter_of_slower_rounds_is_noise(trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(*[0.9] * 3, *[1.3] * (racing.LEAST_ROUNDS - 3))
    monkeypatch.setattr(racing, "take_turns", clock)
    chosen = config("int8", limits=Limits(min_speedup=1.05), fallback=False)
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", chosen)
    (last,) = candidates(result)
    assert not last.passed
    assert (last.speedup, last.speedup_low) == pytest.approx((1.3, 0.9))
    assert last.reason == "1.30 times as fast, but 0.90 in the first quartile: within the noise"
    assert clock.options == {"settling_calls": 1, "settling_s": 0.0, "least_rounds": 11}


@pytest.mark.parametrize(("slow_rounds", "noise"), [(0, False), (2, False), (3, True)])
def test_nine_of_eleven_rounds_have_to_be_faster(slow_rounds: int, noise: bool) -> None:
    turns = Clock(*[0.9] * slow_rounds, *[1.3] * (11 - slow_rounds))({"candidate": None, "source fp32": None})
    assert bool(Speed.of(turns, "candidate", ["source fp32"]).refusal(1.05)) == noise


@pytest.mark.parametrize(
    ("labelled", "images", "lost", "limits", "rival"),
    [
        (True, 60, 1, {}, True),  # one answer of 60 is more than half a point, and says nothing
        (True, 60, 2, {}, False),
        (True, 400, 2, {}, True),
        (True, 400, 3, {}, False),
        (False, 60, 1, {}, True),
        (False, 60, 2, {}, False),
        (True, 60, 1, {"max_drop": 0.0}, False),  # none may be lost: that is meant so
    ],
)
def test_a_source_that_one_answer_fails_stays_a_rival(
    labelled: bool, images: int, lost: int, limits: dict[str, float], rival: bool
) -> None:
    def source(asked: Precision, wrong: int) -> Attempt:
        right = (images - wrong) / images
        top1 = right - 0.1 if labelled else None
        passed = wrong == 0
        return Attempt(
            recipe="source", precision="fp32", asked=asked, top1=top1, agreement=right, relative_error=0, passed=passed
        )

    fp32 = source("fp32", 0)
    assert is_rival(source("bf16", lost), fp32, images=images, limits=Limits(**limits)) == rival
    assert is_rival(source("bf16", 0), fp32, images=images, limits=Limits(**limits))
    assert is_rival(source("fp32", images), fp32, images=images, limits=Limits(**limits))


def test_the_rival_that_is_closest_counts() -> None:
    turns = Clock(*[1.2] * 7)({"candidate": None, "source fp32": None, "source bf16": None})
    speed = Speed.of(turns, "candidate", ["source fp32", "source bf16"])
    assert speed.rival == "source bf16"
    assert speed.speedup == speed.low == pytest.approx(1.2)
    assert not speed.refusal(1.05)
    assert "1.25 asked for" in speed.refusal(1.25)


def test_what_is_not_faster_is_refused_with_its_figures(trained: Digits, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    result = quantize(trained, trained.onnx, output, config("int8", limits=Limits(min_speedup=1000)))
    assert result.path is None
    assert not list(tmp_path.iterdir())
    tried = candidates(result)
    assert [attempt.precision for attempt in tried] == ["int8", "fp16", "bf16"]  # one each: more care is slower still
    assert all(attempt.speedup is not None and "1000 asked for" in attempt.reason for attempt in tried)
    with pytest.raises(GateError, match="no lower precision"):
        result.require_found(trained.onnx)
