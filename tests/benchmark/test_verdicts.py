"""Which contender is fastest, and when a run cannot tell; against SciPy's sign test and against equals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from vitrify.benchmark import Verdict, sentence, verdict_of
from vitrify.timing import Turns


def turns(**seconds: list[float]) -> Turns:
    return Turns(seconds={name: tuple(times) for name, times in seconds.items()})


def verdict(batch: int = 1, **seconds: list[float]) -> Verdict:
    found = verdict_of(turns(**seconds), batch=batch)
    assert found is not None
    return found


@pytest.mark.parametrize("rounds", [5, 8, 11, 30])
def test_the_chance_is_scipys(rounds: int) -> None:
    for faster in range(rounds + 1):
        # Where fewer than half are faster, by so much that it is the fastest all the same.
        b = [1.0] * faster + [2.1] * (rounds - faster)
        found = verdict(a=[2.0] * rounds, b=b)
        most = max(faster, rounds - faster)
        assert found.chance == pytest.approx(stats.binomtest(most, rounds, 0.5).pvalue)
        assert found.told == (found.chance <= 0.01)


def test_the_fastest_stands_beside_the_first() -> None:
    found = verdict(a=[3.0] * 11, b=[2.0] * 11, c=[1.0] * 11, d=[4.0] * 11)
    assert (found.fastest, found.than, found.ties) == ("c", "a", ())
    assert found.times_as_fast == pytest.approx((3, 3, 3))
    assert (found.rounds, found.faster_rounds, found.told) == (11, 11, True)


def test_where_the_first_is_the_fastest_it_stands_beside_the_next() -> None:
    found = verdict(a=[1.0] * 11, b=[3.0] * 11, c=[2.0] * 11)
    assert (found.fastest, found.than) == ("a", "c")


def test_who_cannot_be_told_from_the_fastest() -> None:
    near = [1.0, 1.2] * 5 + [1.0]
    found = verdict(a=[3.0] * 11, b=[1.1] * 11, c=near)
    assert (found.fastest, found.ties) == ("c", ("b",))
    assert "with b as fast, as far as this run can tell" in sentence([found])


def test_equals_are_told_apart_as_seldom_as_stated() -> None:
    rng = np.random.default_rng(0)
    told = sum(verdict(a=list(rng.random(30) + 1), b=list(rng.random(30) + 1)).told for _ in range(2000))
    assert told / 2000 <= 0.02  # the better of two is looked at, by a two-sided test at 1%


def test_no_contender_and_one() -> None:
    assert verdict_of(turns(a=[1.0] * 5), batch=1) is None
    assert sentence([]) == ""


def test_sentences() -> None:
    one = verdict(a=[1.6] * 11, b=[1.0] * 11)
    eight = verdict(batch=8, a=[1.8] * 11, b=[1.0] * 11)
    assert sentence([one]) == "b is 1.60 times as fast as a at batch 1 (quartiles 1.60 to 1.60)"
    assert sentence([one, eight]) == (
        "b is 1.60 times as fast as a at batch 1 (quartiles 1.60 to 1.60), 1.80 times at batch 8 (1.80 to 1.80)"
    )
    even = verdict(batch=8, a=[1.0, 1.1] * 6, b=[1.1, 1.0] * 6)
    assert sentence([one, even]).endswith("); at batch 8 no difference that this run can tell between "
                                          "b and a (1.00 times as fast, quartiles 0.91 to 1.10)")  # fmt: skip
    few = verdict(a=[2.0] * 5, b=[1.0] * 5)
    assert not few.told
    assert "no difference that this run can tell" in sentence([few])
    assert "5 rounds are too few to tell any" in sentence([few])
    assert "too few" not in sentence([verdict(a=[2.0, 1.0] * 4, b=[1.0, 2.0] * 4)])
