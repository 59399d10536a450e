"""Contenders take turns, so that a drifting clock and a busy neighbour meet all of them; noise is no victory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from vitrify.progress import SILENT, Progress

GPU_SETTLING_S = 0.02
"""`settling_s` where a GPU takes part: its clocks are up again after it waited for the others."""

WARM_UP = 3
"""Calls before the first that counts."""

LEAST_ROUNDS = 11
"""Of a race, 15 where time allows. The first quartile of 11 ratios is the third smallest: two files that are
equally fast have it above 1 with a probability of 67 in 2048, 3.3% (at least 9 of 11 tosses of a coin); of 15, 1.8%."""

SETTLING_CALLS = 1
"""Before each timed call of a race: caches then hold its own data, and the threads of the one before sleep."""


@dataclass(frozen=True, kw_only=True)
class Turns:
    """What each round measured.

    Attributes:
        seconds: For each contender, one time a round, in the same order of rounds.
    """

    seconds: dict[str, tuple[float, ...]]

    def median_ms(self, name: str) -> float:
        """A contender's median, in milliseconds."""
        return 1e3 * statistics.median(self.seconds[name])

    def percentile_ms(self, name: str, percent: float) -> float:
        """A percentile of a contender's times, linear between two of them, in milliseconds."""
        return 1e3 * float(np.percentile(self.seconds[name], percent))

    def speedup(self, name: str, over: str) -> tuple[float, float, float]:
        """How many times faster a contender is than another: first quartile, median and third quartile over rounds.

        Each round gives one ratio, so that what slows a whole round down cancels.
        """
        ratios = [slow / quick for quick, slow in zip(self.seconds[name], self.seconds[over], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        return low, middle, high


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    budget_s: float = 20.0,
    least_rounds: int = 5,
    settling_calls: int = 0,
    settling_s: float = 0.0,
    progress: Progress = SILENT,
    label: str = "timing",
) -> Turns:
    """Times contenders in rounds, every other round in the opposite order.

    Args:
        contenders: What to call.
        rounds: At most so many.
        budget_s: After this time no further round begins, once there were `least_rounds`.
        least_rounds: At least so many.
        settling_calls: Calls before the timed one of each turn: caches then hold the contender's own data, and threads
            of the one before, which may spin for a while, have gone to sleep.
        settling_s: Further untimed calls until this time of the turn has passed.
        progress: Told of each round.
        label: What the bar says.
    """
    for call in contenders.values():
        for _ in range(WARM_UP):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    begin = time.perf_counter()
    for number in progress.track(range(rounds), label=label):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            settled, made = time.perf_counter() + settling_s, 0
            while made < settling_calls or time.perf_counter() < settled:
                contenders[name]()
                made += 1
            start = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - start)
        if number + 1 >= least_rounds and time.perf_counter() - begin > budget_s:
            break
    return Turns(seconds={name: tuple(times) for name, times in seconds.items()})


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast a candidate is beside the rival that it is least ahead of.

    Attributes:
        latency_ms: Median of its times.
        pair_ms: Its time and the rival's in the round whose ratio is the median: the figures that belong to `speedup`.
            Medians of their own come from different rounds, and on a busy machine their ratio is another.
        speedup: Times faster: median over the rounds.
        low: The first quartile of that, the lowest over all rivals.
        rival: Which.
    """

    latency_ms: float
    pair_ms: tuple[float, float]
    speedup: float
    low: float
    rival: str

    @classmethod
    def of(cls, turns: Turns, candidate: str, rivals: Iterable[str]) -> Speed:
        """Reads it from what was timed."""
        ratios = {rival: turns.speedup(candidate, rival) for rival in rivals}
        rival = min(ratios, key=lambda name: ratios[name][1])
        return cls(
            latency_ms=turns.median_ms(candidate),
            pair_ms=_middle_pair(turns, candidate, rival),
            speedup=ratios[rival][1],
            low=min(low for low, _, _ in ratios.values()),
            rival=rival,
        )

    def refusal(self, least: float) -> str:
        """Why it is not fast enough, or nothing.

        Args:
            least: What the median has to reach. The first quartile has to be above 1 whatever it is: what is faster in
                some rounds and slower in others was lucky.
        """
        if self.speedup < least:
            return f"{self.speedup:.2f} times as fast as the {self.rival}, {least:g} asked for"
        if self.low <= 1:
            return f"{self.speedup:.2f} times as fast, but {self.low:.2f} in the first quartile: within the noise"
        return ""


def _middle_pair(turns: Turns, candidate: str, rival: str) -> tuple[float, float]:
    pairs = sorted(zip(turns.seconds[candidate], turns.seconds[rival], strict=True), key=lambda pair: pair[1] / pair[0])
    # Of an even number of rounds, the mean of the two in the middle.
    middle = (pairs[(len(pairs) - 1) // 2], pairs[len(pairs) // 2])
    mine, other = (1e3 * sum(times) / 2 for times in zip(*middle, strict=True))
    return mine, other
