"""What a job tells of the time that it still takes, by a clock that the tests set."""

from __future__ import annotations

import math

import pytest

from vitrify.progress import Work, in_words


class Clock:
    """Tells what it is set to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rest_at_the_pace_so_far() -> None:
    clock = Clock()
    work = Work("job", clock=clock)
    assert work.left_s is None
    assert work.expected_s(5) is None
    assert work.rest_s == math.inf
    work.begin(10, after=30)
    clock.now += 20
    work.advance(10)
    assert work.left_s == pytest.approx(60)  # 2 s a unit, 30 units
    assert work.share == pytest.approx(0.25)
    clock.now += 5
    assert work.left_s == pytest.approx(55)  # counts down between two reports
    clock.now += 500
    assert work.left_s == 0


def test_a_plan_that_shrinks_and_a_step_that_takes_more() -> None:
    clock = Clock()
    work = Work("job", clock=clock)
    work.begin(10, after=90)
    clock.now += 10
    work.advance(10)
    work.begin(10, after=0)  # what would have followed is needless
    assert work.left_s == pytest.approx(10)
    clock.now += 20
    work.advance(20)  # twice what it was expected to take
    assert work.left_s == 0
    assert work.share == 1


def test_a_limit_is_never_exceeded() -> None:
    clock = Clock()
    work = Work("job", limit_s=50, clock=clock)
    assert work.left_s == 50  # all that is known
    work.begin(100, after=0)
    clock.now += 10
    work.advance(1)
    assert work.left_s == pytest.approx(40)
    assert work.rest_s == pytest.approx(40)
    assert work.expected_s(5) == pytest.approx(50)
    clock.now += 60
    assert work.rest_s == pytest.approx(-20)
    assert work.left_s == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (90, "2 min"), (3540, "59 min"), (3599, "1.0 h"), (9000, "2.5 h")],
)
def test_durations_for_people(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
