"""Contenders in turns, who is faster for certain, and what this processor reaches."""

from __future__ import annotations

import time

import pytest

from vitrify.timing import WARM_UP, Speed, Turns, measure_peaks, take_turns


def test_every_other_round_runs_backwards() -> None:
    calls: list[str] = []
    turns = take_turns({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=4)  # type: ignore[misc]
    assert calls == ["a"] * WARM_UP + ["b"] * WARM_UP + ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert {name: len(times) for name, times in turns.seconds.items()} == {"a": 4, "b": 4}


def test_a_budget_ends_it_but_not_too_early() -> None:
    turns = take_turns({"a": lambda: None}, rounds=100, budget_s=0.0, least_rounds=5)
    assert len(turns.seconds["a"]) == 5


def test_a_slow_round_for_all_cancels() -> None:
    turns = Turns(seconds={"quick": (1.0, 10.0, 1.0), "slow": (2.0, 20.0, 2.0)})
    assert turns.speedup("quick", "slow") == (2.0, 2.0, 2.0)
    assert turns.median_ms("quick") == pytest.approx(1000)


def test_settling_by_number_and_by_time() -> None:
    calls: list[float] = []
    take_turns({"a": lambda: calls.append(time.perf_counter())}, rounds=2, settling_calls=3)
    assert len(calls) == WARM_UP + 2 * (3 + 1)
    calls.clear()
    take_turns({"a": lambda: calls.append(time.perf_counter())}, rounds=1, settling_calls=1, settling_s=0.05)
    assert calls[-1] - calls[WARM_UP] >= 0.045  # the first untimed call to the timed one


@pytest.mark.parametrize(("slow_rounds", "noise"), [(0, False), (2, False), (3, True)])
def test_nine_of_eleven_rounds_have_to_be_faster(slow_rounds: int, noise: bool) -> None:
    turns = Turns(seconds={"candidate": (1.0,) * 11, "source fp32": (0.9,) * slow_rounds + (1.3,) * (11 - slow_rounds)})
    assert bool(Speed.of(turns, "candidate", ["source fp32"]).refusal(1.05)) == noise


def test_the_rival_that_is_closest_counts() -> None:
    turns = Turns(seconds={"candidate": (1.0,) * 7, "source fp32": (2.4,) * 7, "source bf16": (1.2,) * 7})
    speed = Speed.of(turns, "candidate", ["source fp32", "source bf16"])
    assert speed.rival == "source bf16"
    assert speed.speedup == speed.low == pytest.approx(1.2)
    assert not speed.refusal(1.05)
    assert "1.25 asked for" in speed.refusal(1.25)


def test_times_and_ratio_are_of_one_round() -> None:
    """Medians of their own would give 4 beside 4, which is no ratio of 2."""
    turns = Turns(seconds={"candidate": (1.0, 4.0, 4.5, 2.0, 9.0), "source fp32": (4.0, 4.0, 3.0, 4.0, 27.0)})
    speed = Speed.of(turns, "candidate", ["source fp32"])  # ratios 4, 1, 0.67, 2, 3
    assert speed.speedup == 2
    assert speed.pair_ms == pytest.approx((2000, 4000))
    even = Turns(seconds={"candidate": (1.0, 1.0), "source fp32": (1.0, 3.0)})
    assert Speed.of(even, "candidate", ["source fp32"]).pair_ms == pytest.approx((1000, 2000))


def test_the_peaks_of_this_machine() -> None:
    peaks = measure_peaks(1)
    assert peaks.threads == 1
    # From an old phone's core to more than any core has: a wrong unit or a factor of 1000 is outside.
    assert 1e9 < peaks.flops_per_s < 1e13
    assert 1e8 < peaks.bytes_per_s < 1e12
