"""How long work tells its caller where it stands, without knowing whether there is a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """What a long step reports to. The command line draws it with rich; the library's default is `SILENT`."""

    def say(self, message: str) -> None:
        """Tells the user one thing worth knowing: a decision taken for them, a fallback, a result."""

    def track(self, items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
        """Yields `items` unchanged while a bar named `label` advances; `total` where `len(items)` does not tell."""


class _Silent:
    def say(self, message: str) -> None:
        pass

    def track(self, items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
        return iter(items)


SILENT: Progress = _Silent()
