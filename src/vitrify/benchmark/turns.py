"""Contenders take turns, so that a drifting clock and a busy neighbour meet all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vitrify.progress import SILENT, Progress

GPU_SETTLING_S = 0.02
"""`settling_s` where a GPU takes part: its clocks are up again after it waited for the others."""

WARM_UP = 3
"""Calls before the first that counts."""


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
