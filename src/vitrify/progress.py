"""How long work tells its caller where it stands, without knowing whether there is a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


class Work:
    """How much of a long job is done, and how long the rest takes at the pace so far.

    A job goes step by step, in units that take about equally long, such as images through a network. What is still
    planned may shrink, when a step makes others needless.

    Args:
        label: What a display says; may change.
        limit_s: Seconds after which the job ends in any case.
        clock: Gives seconds.
    """

    def __init__(
        self, label: str, *, limit_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.label = label
        self.done = 0.0
        self._limit_s, self._clock = limit_s, clock
        self._begin = self._advanced = clock()
        self._step_ends = self._after = 0.0

    def begin(self, units: float, *, after: float) -> None:
        """A step begins.

        Args:
            units: What it is expected to take.
            after: What is planned after it, at most.
        """
        self._step_ends, self._after = self.done + units, after

    def advance(self, units: float) -> None:
        """Some of the step is done."""
        self.done += units
        self._advanced = self._clock()

    @property
    def seconds(self) -> float:
        """Since the job began."""
        return self._clock() - self._begin

    @property
    def share(self) -> float:
        """Done, of all that is done or planned, 0 to 1."""
        whole = self.done + self._left
        return self.done / whole if whole else 0.0

    @property
    def rest_s(self) -> float:
        """Until the job ends in any case; infinite without a limit, negative when it is over."""
        return float("inf") if self._limit_s is None else self._limit_s - self.seconds

    def expected_s(self, units: float) -> float | None:
        """How long some units take at the pace so far; None where nothing is done yet."""
        return units * (self._advanced - self._begin) / self.done if self.done else None

    @property
    def left_s(self) -> float | None:
        """How long the rest takes at most, if the pace stays; None where nothing is known."""
        expected = self.expected_s(self._left)
        if expected is None:
            return None if self._limit_s is None else max(self.rest_s, 0.0)
        return max(min(expected - (self._clock() - self._advanced), self.rest_s), 0.0)

    @property
    def _left(self) -> float:
        return max(self._step_ends - self.done, 0.0) + self._after


class Progress(Protocol):
    """What a long step reports to. The command line draws it with rich; the library's default is `SILENT`."""

    def say(self, message: str) -> None:
        """Tells the user one thing worth knowing: a decision taken for them, a fallback, a result."""

    def track(self, items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
        """Yields `items` unchanged while a bar named `label` advances; `total` where `len(items)` does not tell."""


@runtime_checkable
class Watcher(Protocol):
    """A `Progress` that can show a whole job, above the bars of its steps, does so too."""

    def watch(self, work: Work) -> AbstractContextManager[None]:
        """Shows, while the context lasts, how far a job is and how long it still takes."""


class _Silent:
    def say(self, message: str) -> None:
        pass

    def track(self, items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
        return iter(items)


SILENT: Progress = _Silent()


def in_words(seconds: float) -> str:
    """A duration for people, to two digits: `40 s`, `7 min`, `2.5 h`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 59.5 * 60 else f"{seconds / 3600:.1f} h"
