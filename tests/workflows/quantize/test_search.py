"""Which candidate is taken, and what is not begun any more: with a judge whose verdicts and pace are given."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.conftest import tiny_spec
from tests.precision.digits import Digits
from tests.workflows.quantize.quantizing import a_search, candidates, config, quantize
from tests.workflows.test_export import Recorder
from vitrify.errors import GateError
from vitrify.precision import Recipe, Rewritten
from vitrify.progress import SILENT, Work
from vitrify.spec import Attempt, PrecisionSearch
from vitrify.workflows.quantize import limits
from vitrify.workflows.quantize.judge import Crops, Tried
from vitrify.workflows.quantize.limits import Budget, Loss
from vitrify.workflows.quantize.search import Found, Search

BLOCKS = tuple(f"blocks.{number}" for number in range(4))
SLOW = -1


class Clock:
    """A second passes with each image that goes through a network."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()

    def work(label: str, *, limit_s: float | None = None) -> Work:
        return Work(label, limit_s=limit_s, clock=made)

    monkeypatch.setattr(limits, "Work", work)
    return made


class Verdicts:
    """A judge, and the rewriter too: each candidate loses as many of 243 answers as the next of `losses` says."""

    runtime = "onnxruntime"
    spec = tiny_spec()
    blocks = BLOCKS

    def __init__(self, budget: Budget, clock: Clock, *losses: int) -> None:
        self.losses = list(losses)
        self.budget, self.clock = budget, clock
        self.ranked = 0

    def _pass(self, images: int) -> None:
        for _ in self.budget.track(range(images), label="images"):
            self.clock.now += 1
            self.budget.work.advance(1)

    def images_for_sources(self) -> int:
        return 10

    def images_for(self, recipe: Recipe) -> int:
        return 20

    def images_for_ranking(self, blocks: int) -> int:
        return blocks

    def judge_sources(self) -> tuple[Attempt, ...]:
        self._pass(10)
        return (Attempt(recipe="source", precision="fp32", passed=True),)

    def rewrite(self, recipe: Recipe) -> Rewritten:
        return Rewritten(proto=onnx.ModelProto(domain=str(recipe)))

    def harm(self, path: Path, recipe: Recipe, block: str) -> float:
        self._pass(1)
        self.ranked += block == BLOCKS[-1]
        return 0.0

    def unjudged(self, recipe: Recipe, reason: str) -> Attempt:
        return Attempt(recipe=str(recipe), precision=recipe.precision, passed=False, reason=reason)

    def judge(self, path: Path, recipe: Recipe) -> Tried:
        self._pass(20)
        lost = self.losses.pop(0)
        attempt = Attempt(recipe=str(recipe), precision=recipe.precision, lost=max(lost, 0), gained=0, passed=False)
        if lost == SLOW:
            return Tried(attempt=dataclasses.replace(attempt, reason="slow"), accurate=True)
        if Loss(images=243, lost=lost, gained=0).is_beyond(0.005, 0.8):
            return Tried(attempt=dataclasses.replace(attempt, reason="lost"), accurate=False)
        return Tried(attempt=dataclasses.replace(attempt, passed=True), accurate=True)


def search(
    clock: Clock, *losses: int, time_s: float | None = None, progress: Any = SILENT
) -> tuple[Found | None, PrecisionSearch, Verdicts]:
    budget = Budget(progress, time_s)
    judge: Any = Verdicts(budget, clock, *losses)
    made = Search(judge, judge, a_search(), calibration=5, budget=budget, attempted=lambda record: None)
    found = made.run(Recipe(precision="int8"), ("int8", "fp16"))
    return found, made.record, judge


@pytest.mark.parametrize(
    ("losses", "taken", "tried"),
    [
        ((0,), 1, 1),  # within the limit: the first is taken
        ((1,), 1, 1),
        ((9, 1), 2, 2),  # refused, and a more careful one holds
        ((2, 1), 2, 2),  # chance may have lost the second answer; a more careful one loses less
        ((2, 9, 2, 2), 1, 4),  # none loses less: the first of those that lose as many, which is the fastest
        ((9, 2, 9, 9), 2, 4),  # no other precision where one holds
        ((2, SLOW), 1, 2),  # a more careful one is too slow, and those after it would be slower
        ((9, 9, 9, 9, 0), 5, 5),  # fp16
        ((SLOW, 0), 2, 2),
        ((SLOW, SLOW), None, 2),
    ],
)
def test_what_is_taken(clock: Clock, losses: tuple[int, ...], taken: int | None, tried: int) -> None:
    found, record, judge = search(clock, *losses)
    assert judge.losses == []
    assert len(record.attempts) == 1 + tried
    assert record.taken == taken
    assert record.stopped == ""
    assert (found is None) == (taken is None)
    if found is not None and taken is not None:
        assert found.spec.precision_search == record
        assert found.rewritten.proto.domain == record.attempts[taken].recipe


def test_what_would_not_be_finished_is_not_begun(clock: Clock) -> None:
    # The source takes 10 s, the first candidate 20 and twice 5 for ranges, which did not come to pass here.
    found, record, judge = search(clock, 9, 9, time_s=39)
    assert found is None
    assert len(record.attempts) == 1
    assert record.stopped == "29 s of its 39 s were left, and candidate 1 of up to 9 takes about 30 s"
    # 30 s of 53 are over: the ranking of 4 blocks and a candidate take 24.
    found, record, judge = search(clock_at_zero(clock), 9, 9, time_s=53)
    assert (len(record.attempts), judge.ranked) == (2, 0)
    found, record, judge = search(clock_at_zero(clock), 9, 9, time_s=55)
    assert (len(record.attempts), judge.ranked) == (3, 1)


def clock_at_zero(clock: Clock) -> Clock:
    clock.now = 0
    return clock


def test_the_reserve_is_written_when_the_time_is_over(clock: Clock) -> None:
    found, record, _ = search(clock, 2, 0, time_s=45)
    assert found is not None
    assert record.taken == 1
    assert record.stopped
    assert found.spec.precision_search == record


def test_a_step_ends_at_its_next_batch(clock: Clock) -> None:
    found, record, _ = search(clock, 0, time_s=4)
    assert found is None
    assert record.attempts == ()
    assert record.stopped == "its 4 s were over"
    assert clock.now <= 5

    class Slower(Recorder):
        """Takes the time that was expected to be enough."""

        def say(self, message: str) -> None:
            super().say(message)
            if message.startswith("trying"):
                clock.now += 15

    found, record, _ = search(clock_at_zero(clock), 0, time_s=42, progress=Slower())
    assert found is None
    assert record.attempts[-1].reason == "not judged to the end: its 42 s were over"
    assert record.attempts[-1].lost is None
    assert clock.now <= 43


def test_each_candidate_says_how_long_the_search_may_take(clock: Clock) -> None:
    recorder = Recorder()
    search(clock, 9, SLOW, 0, progress=recorder)
    trying = [line.partition(": ")[2] for line in recorder.said if line.startswith("trying")]
    # Of int8 there are 4 candidates, of fp16 5: with ranges and two rankings 9 * 20 + 2 * 10 + 2 * 4 s.
    assert trying == [
        "candidate 1 of up to 9, 3 min left at most",
        "candidate 2 of up to 9, 3 min left at most",
        "candidate 3 of up to 7, 2 min left at most",
    ]


def test_the_time_of_a_real_search(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    tensors = Crops.tensors

    def timed(crops: Crops, images: Any) -> Any:
        clock.now += len(images)
        return tensors(crops, images)

    monkeypatch.setattr(Crops, "tensors", timed)
    # The source takes 300 s, a candidate 300 and its ranges as much as the calibration images twice.
    given: dict[str, Any] = {"runtime": "onnxruntime", "fallback": False}
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", config("int8", time_s=700.0, **given))
    assert result.path is None
    assert candidates(result) == []
    assert "candidate 1 of up to" in result.search.stopped
    assert result.search.time_s == 700
    with pytest.raises(GateError, match="within 12 min") as caught:
        result.require_found(trained.onnx)
    assert "--time" in (caught.value.hint or "")
    assert not (tmp_path / "out.onnx").exists()
    clock.now = 0
    # fp16 around takes the calibration images a third time, which the estimate does not know.
    chosen = config("int8", time_s=800.0, around="fp16", **given)
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", chosen)
    (last,) = candidates(result)
    assert last.reason.startswith("not judged to the end")
    assert result.path is None
    clock.now = 0
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", config("fp16", time_s=10_000.0, **given))
    assert result.path is not None
    assert result.search.stopped == ""
