"""The time that a search may take: nothing is begun that would not be finished, and a step ends at its next batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from vitrify.progress import Progress, Watcher, Work, in_words

T = TypeVar("T")


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
