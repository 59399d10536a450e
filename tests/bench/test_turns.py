"""Contenders in turns."""

from __future__ import annotations

import pytest

from vitrify.bench import Turns, take_turns
from vitrify.bench.turns import WARM_UP


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
