"""Is a candidate faster than what is there already? Timed in turns with the source, and held against noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrify.benchmark import GPU_SETTLING_S, Turns, take_turns
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import open_runtime
from vitrify.spec import Precision
from vitrify.verification import infer_with

LEAST_ROUNDS = 11
"""So many at least, and 15 where time allows. The first quartile of 11 ratios is the third smallest: two files that are
equally fast have it above 1 with a probability of 67 in 2048, 3.3% (at least 9 of 11 tosses of a coin); of 15, 1.8%."""

SETTLING_CALLS = 1
"""Before each timed call: caches then hold the contender's own data, and the threads of the one before sleep."""


@dataclass(frozen=True, kw_only=True)
class Stopwatch:
    """Times files in one runtime.

    Attributes:
        runtime: Its name.
        tensors: The batch that is inferred, `[B, 3, H, W]` float32.
        threads: Of the runtime.
        progress: Told of each round.
    """

    runtime: str
    tensors: npt.NDArray[np.float32]
    threads: int | None
    progress: Progress = field(default=SILENT, repr=False)

    def time(self, contenders: Mapping[str, tuple[Path, Precision]]) -> Turns:
        """Times contenders in turns.

        Args:
            contenders: For each name a file, and the precision that the runtime is asked for.

        Raises:
            RuntimeFailureError: The runtime refuses one.
        """
        with ExitStack() as stack:
            calls = {}
            for name, (path, asked) in contenders.items():
                runtime = stack.enter_context(open_runtime(path, self.runtime, precision=asked, threads=self.threads))
                infer = infer_with(runtime, runtime.spec)
                calls[name] = lambda infer=infer: infer(self.tensors)
            settling_s = GPU_SETTLING_S if self.runtime == "tensorrt" else 0.0
            return take_turns(
                calls,
                least_rounds=LEAST_ROUNDS,
                settling_calls=SETTLING_CALLS,
                settling_s=settling_s,
                progress=self.progress,
            )


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
