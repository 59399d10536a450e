"""Turns and peaks to the numbers of a row; which contender is fastest, and whether a run can tell: a sign test."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitrify.benchmark.report import Roofline, Timing, Verdict
from vitrify.graphs import GraphCost
from vitrify.timing import Peaks, Turns

CHANCE = 0.01
"""Contenders that are equally fast are told apart this seldom."""


def timing_of(turns: Turns, name: str, *, batch: int, first: str) -> Timing:
    """Adds up what a contender's turns measured; `first` is what its ratio is to."""
    median = turns.median_ms(name)
    return Timing(
        rounds=len(turns.seconds[name]),
        median_ms=median,
        quartiles_ms=(turns.percentile_ms(name, 25), turns.percentile_ms(name, 75)),
        p90_ms=turns.percentile_ms(name, 90),
        p99_ms=turns.percentile_ms(name, 99),
        images_per_s=1e3 * batch / median,
        times_as_fast=turns.speedup(name, first),
        compared_to=first,
    )


def roofline_of(cost: GraphCost, peaks: Peaks, *, batch: int, seconds: float) -> Roofline:
    """Shares of the measured peaks that a batch of `batch` images in `seconds` comes to."""
    flops, moved = batch * cost.flops, cost.weight_bytes + batch * cost.io_bytes
    of_flops, of_bytes = flops / seconds / peaks.flops_per_s, moved / seconds / peaks.bytes_per_s
    return Roofline(
        flops=flops,
        bytes=moved,
        of_peak_flops=of_flops,
        of_peak_bandwidth=of_bytes,
        of_roofline=max(of_flops, of_bytes),
    )


def verdict_of(turns: Turns, *, batch: int) -> Verdict | None:
    """The fastest contender beside the first one; where that is the fastest, beside the next.

    Args:
        turns: What the contenders measured.
        batch: Images in one call.

    Returns:
        None with fewer than two contenders.
    """
    first, *others = turns.seconds
    if not others:
        return None
    ranked = sorted(turns.seconds, key=lambda name: -turns.speedup(name, first)[1])
    fastest = ranked[0]
    than = ranked[1] if fastest == first else first
    faster, chance = _sign_test(turns, fastest, than)
    return Verdict(
        batch=batch,
        fastest=fastest,
        than=than,
        times_as_fast=turns.speedup(fastest, than),
        rounds=len(turns.seconds[first]),
        faster_rounds=faster,
        chance=chance,
        told=chance <= CHANCE,
        ties=tuple(
            name for name in ranked if name not in (fastest, than) and _sign_test(turns, fastest, name)[1] > CHANCE
        ),
    )


def sentence(verdicts: Sequence[Verdict]) -> str:
    """Verdicts of all batch sizes for people."""
    told: list[str] = []
    before: Verdict | None = None
    for one in verdicts:
        low, middle, high = one.times_as_fast
        times = f"{middle:.2f} times"
        spread = f"{low:.2f} to {high:.2f}"
        if not one.told:
            few = f"; {one.rounds} rounds are too few to tell any" if 2 * 0.5**one.rounds > CHANCE else ""
            told.append(
                f"at batch {one.batch} no difference that this run can tell between {one.fastest} and {one.than} "
                f"({times} as fast, quartiles {spread}{few})"
            )
        elif before is not None and before.told and (before.fastest, before.than) == (one.fastest, one.than):
            told[-1] += f", {times} at batch {one.batch} ({spread})"
        else:
            told.append(f"{one.fastest} is {times} as fast as {one.than} at batch {one.batch} (quartiles {spread})")
        if one.ties:
            told[-1] += f", with {' and '.join(one.ties)} as fast, as far as this run can tell"
        before = one
    return "; ".join(told)


def _sign_test(turns: Turns, name: str, other: str) -> tuple[int, float]:
    """In how many rounds one was faster, and how seldom equals differ as often, two-sided."""
    pairs = list(zip(turns.seconds[name], turns.seconds[other], strict=True))
    faster = sum(mine < its for mine, its in pairs)
    slower = sum(mine > its for mine, its in pairs)
    rounds, most = faster + slower, max(faster, slower)
    tail = sum(math.comb(rounds, count) for count in range(most, rounds + 1)) / 2**rounds
    return faster, min(2 * tail, 1.0)
