"""What a search may cost: answers that are lost, where chance does not explain it, and time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np

from vitrify.errors import OptionError
from vitrify.progress import Progress, Watcher, Work, in_words
from vitrify.workflows.races import MIN_SPEEDUP, require_speedup

T = TypeVar("T")

_EPSILON = 1e-9
"""What binary fractions may make of a limit: 0.5% of 200 images is one image."""

_MANY = 100_000
"""Images: where more are needed, a normal distribution is as good."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What has to hold.

    Attributes:
        max_drop: Most top-1 accuracy that may be lost against the source, 0 to 1, where there are labels.
        min_agreement: Least share of the source's answers, where there are none.
        confidence: A loss is refused where it is beyond its limit with this confidence, 0.5 to 1: of few images, one
            more answer may be chance. At 0.5, what was measured decides.
        min_speedup: Least median speedup over the source in the fastest precision in which it holds its own gate; the
            first quartile has to be above 1 besides. None does not judge speed.
    """

    max_drop: float = 0.005
    min_agreement: float = 0.99
    confidence: float = 0.8
    min_speedup: float | None = MIN_SPEEDUP

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 1 or not 0 <= self.min_agreement <= 1:
            raise OptionError(
                "a limit is no share", got=f"{self.max_drop:g}, {self.min_agreement:g}", expected="0 to 1 (0 to 100%)"
            )
        if not 0.5 <= self.confidence < 1:
            raise OptionError(
                "a confidence that cannot be", got=f"{self.confidence:g}", expected="0.5 to less than 1 (50 to 99.9%)"
            )
        if self.min_speedup is not None:
            require_speedup(self.min_speedup)

    def allowed(self, *, labelled: bool) -> float:
        """The share of images whose answer may be lost."""
        return self.max_drop if labelled else 1 - self.min_agreement


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What a file loses against another one on the same images, answer by answer.

    Answers are pairs, as in McNemar's test (1947): what both get right or both get wrong says nothing of a difference.
    Against a limit above zero the hypothesis is Tango's (Statistics in Medicine 17, 1998, p. 891): the share of lost
    answers less the share of gained ones is that limit. The chance of what was seen is computed exactly, under the
    shares that are likeliest then, as Hsueh, Liu and Chen do (Biometrics 57, 2001, p. 478). Where no answer can be
    gained, the bounds are Clopper and Pearson's (1934).

    Attributes:
        images: How many were judged.
        lost: Right (or, without labels, the same as the source's) before, and no longer.
        gained: Wrong before, and right now; None where there is nothing to gain, as without labels.
    """

    images: int
    lost: int
    gained: int | None = None

    @property
    def net(self) -> int:
        """Answers lost, less those gained."""
        return self.lost - (self.gained or 0)

    @property
    def share(self) -> float:
        """Of the images, that is lost; negative where more is gained."""
        return self.net / self.images

    def is_within(self, allowed: float) -> bool:
        """Whether no more than `allowed`, a share, was lost as measured."""
        return self.net <= allowed * self.images + _EPSILON

    def is_beyond(self, allowed: float, confidence: float) -> bool:
        """Whether more than `allowed` is lost, with a confidence.

        What was measured has to be more, and to be too much for chance: if the loss were just what is allowed, so many
        answers would be lost with a probability of at most `1 - confidence`. A limit of 0 is meant so: none may be lost
        of these images, and chance excuses nothing.

        Args:
            allowed: The limit, a share of the images.
            confidence: 0.5 to 1.
        """
        if self.is_within(allowed):
            return False
        return allowed == 0 or self._chance_of_more(allowed) <= 1 - confidence

    def bounds(self, confidence: float) -> tuple[float, float]:
        """The least and the largest loss, as shares, that what was measured does not exclude.

        Args:
            confidence: Of each bound by itself.
        """
        chance = 1 - confidence
        least = 0.0 if self.gained is None else -1.0
        low = _begin(lambda loss: self._chance_of_more(loss) > chance, least, self.share)
        high = _begin(lambda loss: self._chance_of_less(loss) <= chance, self.share, 1.0)
        return low, high

    def images_needed(self, allowed: float, confidence: float) -> int | None:
        """About how many images with answers like these would tell whether the limit holds.

        Args:
            allowed: The limit, above 0.
            confidence: Of the verdict.

        Returns:
            0 where these tell; None where no number would, because just the limit is lost.
        """
        if self._tells(allowed, confidence):
            return 0
        distance = abs(self.share - allowed)
        if distance < _EPSILON:
            return None
        # About as many as a normal distribution asks for, and more where the steps between whole answers are coarse.
        variance = 2 * self._gained_share(allowed) + allowed * (1 - allowed)
        images = max(NormalDist().inv_cdf(confidence) ** 2 * variance / distance**2, self.images + 1.0)
        while images < _MANY and not self._of(images)._tells(allowed, confidence):
            images *= 1.1
        return math.ceil(images)

    def _of(self, images: float) -> Loss:
        """The same shares of more images."""
        scale = images / self.images
        gained = None if self.gained is None else round(scale * self.gained)
        return Loss(images=math.ceil(images), lost=round(scale * self.lost), gained=gained)

    def _tells(self, allowed: float, confidence: float) -> bool:
        return min(self._chance_of_more(allowed), self._chance_of_less(allowed)) <= 1 - confidence

    def _chance_of_more(self, loss: float) -> float:
        return float(self._chances(loss)[self.net + self.images :].sum())

    def _chance_of_less(self, loss: float) -> float:
        return float(self._chances(loss)[: self.net + self.images + 1].sum())

    def _chances(self, loss: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The probability of each net loss if `loss` were the true one, `[2 images + 1]`: all gained to all lost."""
        gained = self._gained_share(loss)
        lost, kinds = gained + loss, 2 * self.images + 1
        turn = np.exp(-2j * np.pi * np.arange(kinds) / kinds)
        # The discrete Fourier transform of the net loss of one image, to the power of the number of images.
        transform = (1 - lost - gained + lost * turn + gained * turn.conj()) ** self.images
        return np.roll(np.fft.ifft(transform).real, self.images)

    def _gained_share(self, loss: float) -> float:
        """The likeliest share of gained answers if `loss` were the true one; Tango's equation for q21."""
        if self.gained is None:
            return 0.0
        n, b, c = self.images, self.lost, self.gained
        middle = (2 * n - b + c) * loss - b - c
        root = math.sqrt(max(middle**2 + 8 * n * c * loss * (1 - loss), 0.0))
        return min(max((root - middle) / (4 * n), 0.0, -loss), (1 - loss) / 2)


def _begin(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition begins to hold between two shares, to two millionths."""
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


class TimeIsOverError(Exception):
    """The time is over, or too short for the next step; the message says which. Ends a search, and never leaves it."""


class Budget:
    """A `Progress` that hands everything on, and ends what it follows when the time is over.

    Args:
        progress: What is told.
        time_s: Seconds from now on; None for as long as it takes.
    """

    def __init__(self, progress: Progress, time_s: float | None = None) -> None:
        self.work = Work("preparing", limit_s=time_s)
        self._progress, self._time_s = progress, time_s

    def say(self, message: str) -> None:
        """Hands it on."""
        self._progress.say(message)

    def watched(self) -> AbstractContextManager[None]:
        """Shows the whole work while the context lasts, where what is told can show it."""
        return self._progress.watch(self.work) if isinstance(self._progress, Watcher) else contextlib.nullcontext()

    def track(self, items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
        """Yields `items`, each only if there is time left.

        Raises:
            TimeIsOverError: There is none.
        """
        for item in self._progress.track(items, label=label, total=total):
            if self.work.rest_s < 0:
                raise TimeIsOverError(f"its {in_words(self._time_s or 0)} were over")
            yield item

    def begin(self, label: str, units: float, *, after: float) -> None:
        """A step begins.

        Args:
            label: What a display says from now on.
            units: What it is expected to take: images through a network.
            after: What is planned after it, at most.

        Raises:
            TimeIsOverError: At the pace so far it would not be finished.
        """
        expected = self.work.expected_s(units)
        if expected is not None and expected > self.work.rest_s:
            raise TimeIsOverError(
                f"{in_words(max(self.work.rest_s, 0))} of its {in_words(self._time_s or 0)} were left, and {label} "
                f"takes about {in_words(expected)}"
            )
        self.work.label = label
        self.work.begin(units, after=after)
