"""Contenders in turns."""

from __future__ import annotations

import time

import pytest

from vitrify.benchmark import Turns, take_turns
from vitrify.benchmark.turns import WARM_UP


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
