"""Only what is faster than the source, in whatever precision that runs, is taken; and noise is not speed.

Times are told by a clock that the tests set: what a loaded machine would measure decides nothing here.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.precision.digits import Digits
from tests.workflows.quantize.quantizing import Clock, a_search, candidates, config, quantize
from vitrify.errors import GateError
from vitrify.runtimes import has_native_bf16
from vitrify.spec import Attempt, Precision
from vitrify.timing import LEAST_ROUNDS
from vitrify.workflows import races
from vitrify.workflows.quantize import report
from vitrify.workflows.quantize.judge import rivals_among
from vitrify.workflows.quantize.limits import Limits
from vitrify.workflows.quantize.report import search_notes

RIVALS = ["source fp32", "source bf16"] if has_native_bf16() else ["source fp32"]


@pytest.mark.parametrize(("precision", "speedup"), [("int8", 1.5), ("int8", 0.9), ("fp16", 0.9), ("bf16", 0.9)])
def test_the_rival_is_the_fastest_source(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speedup: float, precision: str
) -> None:
    clock = Clock(*[speedup] * 5)
    monkeypatch.setattr(races, "take_turns", clock)
    chosen = config(precision, limits=Limits(min_speedup=1.05), fallback=False)
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", chosen)
    (last,) = candidates(result)
    assert clock.raced[-1] == ["candidate", *RIVALS]
    assert last.speedup == pytest.approx(speedup)
    assert (result.path is not None) == (speedup > 1)
    assert last.passed or last.reason == f"0.90 times as fast as the {RIVALS[-1]}, 1.05 asked for"
    assert last.asked == ("bf16" if has_native_bf16() and precision != "fp16" else "fp32")


def test_a_quarter_of_slower_rounds_is_noise(trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(*[0.9] * 3, *[1.3] * (LEAST_ROUNDS - 3))
    monkeypatch.setattr(races, "take_turns", clock)
    chosen = config("int8", limits=Limits(min_speedup=1.05), fallback=False)
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", chosen)
    (last,) = candidates(result)
    assert not last.passed
    assert (last.speedup, last.speedup_low) == pytest.approx((1.3, 0.9))
    assert last.reason == "1.30 times as fast, but 0.90 in the first quartile: within the noise"
    assert {"settling_calls": 1, "settling_s": 0.0, "least_rounds": 11}.items() <= clock.options.items()


@pytest.mark.parametrize(
    ("fp32", "bf16", "rivals"),
    [
        (True, True, ["fp32", "bf16"]),
        (True, False, ["fp32"]),
        (False, True, ["fp32", "bf16"]),
        (False, False, ["fp32"]),
    ],
)
def test_the_source_is_a_rival_wherever_it_holds_its_gate(fp32: bool, bf16: bool, rivals: list[str]) -> None:
    def source(asked: Precision, passed: bool) -> Attempt:
        return Attempt(recipe="source", precision="fp32", asked=asked, passed=passed)

    assert rivals_among([source("fp32", fp32), source("bf16", bf16)]) == rivals


def test_a_row_has_times_only_with_its_rival(trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(races, "take_turns", Clock(*[1.5] * 11))
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", config("fp16", limits=Limits(min_speedup=1.05)))
    source, *_, last = result.search.attempts
    assert source.latency_ms is source.rival_ms is source.speedup is None
    assert last.rival == RIVALS[-1]
    assert last.latency_ms is not None
    assert last.rival_ms is not None
    assert last.rival_ms / last.latency_ms == pytest.approx(last.speedup)


@pytest.mark.parametrize("lacks", [True, False])
def test_missing_8_bit_products_are_named_as_the_reason(monkeypatch: pytest.MonkeyPatch, *, lacks: bool) -> None:
    monkeypatch.setattr(report, "saturates_8bit", lambda: lacks)
    slow = Attempt(recipe="int8", precision="int8", speedup=0.9, speedup_low=0.8, passed=False, reason="slow")
    search = a_search(slow)
    assert any("VNNI" in note and "--no-judge-speed" in note for note in search_notes(search)) == lacks
    fast = dataclasses.replace(slow, passed=True, reason="")
    assert search_notes(a_search(fast)) == []
    assert search_notes(a_search(dataclasses.replace(slow, precision="fp16"))) == []


def test_what_is_not_faster_is_refused_with_its_figures(trained: Digits, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    result = quantize(trained, trained.onnx, output, config("int8", limits=Limits(min_speedup=1000)))
    assert result.path is None
    assert not list(tmp_path.iterdir())
    tried = candidates(result)
    assert [attempt.precision for attempt in tried] == ["int8", "fp16", "bf16"]  # one each: more care is slower still
    assert all(attempt.speedup is not None and "1000 asked for" in attempt.reason for attempt in tried)
    with pytest.raises(GateError, match="no lower precision") as caught:
        result.require_found(trained.onnx)
    assert "--no-judge-speed" in (caught.value.hint or "")
