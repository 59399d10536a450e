"""The terminal: results on stdout, everything else on stderr, bars only where somebody looks."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TextIO, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

from vitrify.errors import VitrifyError
from vitrify.progress import Work, in_words
from vitrify.spec import encode
from vitrify.text import for_json, for_terminal

T = TypeVar("T")

BAR_DELAY_S = 1.0
"""Work that is done sooner shows no bar."""

PIPE_WIDTH = 160
"""Columns where nobody's terminal says how many there are: in a file or a pipe, rich would cut tables at 80."""


class SafeConsole(Console):
    """A console whose every text passes `for_terminal`, whatever prints it: names and labels are the user's."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Before it is measured, so that tables stay aligned."""
        return super().render_str(for_terminal(text, lines=True), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Whatever came in another way, as styled text does."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(for_terminal(segment.text, lines=True), segment.style)


def _console(stream: TextIO, *, stderr: bool) -> Console:
    told = stream.isatty() or "COLUMNS" in os.environ
    # File and class names are the user's: never read as markup.
    return SafeConsole(stderr=stderr, highlight=False, markup=False, emoji=False, width=None if told else PIPE_WIDTH)


out = _console(sys.stdout, stderr=False)
err = _console(sys.stderr, stderr=True)


class TerminalProgress:
    """Draws `vitrify.progress.Progress` with rich: nested work as nested bars, gone when it is done."""

    def __init__(self) -> None:
        self._display: Progress | None = None

    def say(self, message: str) -> None:
        """Prints one line above the bars, on stderr."""
        (self._display.console if self._display else err).print(Text(for_terminal(message), style="dim"))

    @contextlib.contextmanager
    def watch(self, work: Work) -> Iterator[None]:
        """Shows a whole job above the bars of its steps, where stderr is a terminal."""
        if not err.is_terminal:
            yield
            return
        owner = self._display is None
        self._display = display = self._display or _display()
        task = display.add_task(work.label, total=1, work=work)
        try:
            yield
        finally:
            display.remove_task(task)
            if owner:
                display.stop()
                self._display = None

    def track(self, items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
        """Yields `items`; a bar appears once the work has taken `BAR_DELAY_S` and stderr is a terminal."""
        total = len(items) if total is None and isinstance(items, Sized) else total
        if not err.is_terminal:
            yield from items
            return
        start, task, owner = time.monotonic(), None, False
        try:
            for done, item in enumerate(items):
                if task is None and time.monotonic() - start > BAR_DELAY_S:
                    owner = self._display is None
                    self._display = self._display or _display()
                    task = self._display.add_task(label, total=total)
                if task is not None and self._display is not None:
                    self._display.update(task, completed=done)
                yield item
        finally:
            if self._display is not None and task is not None:
                self._display.remove_task(task)
                if owner:
                    self._display.stop()
                    self._display = None


class _Label(TextColumn):
    """What is done: a long name gives way to the bar."""

    def __init__(self, width: int) -> None:
        super().__init__("{task.description}", markup=False)
        self._width = width

    def render(self, task: Task) -> Text:
        if isinstance(work := task.fields.get("work"), Work):
            task.description = work.label
        text = super().render(task)
        text.truncate(self._width, overflow="ellipsis")
        return text


class _Bar(BarColumn):
    """A whole job's bar is what is done of all that is planned."""

    def render(self, task: Task) -> ProgressBar:
        if isinstance(work := task.fields.get("work"), Work):
            task.completed = work.share
        return super().render(task)


class _Count(MofNCompleteColumn):
    """A whole job has a share."""

    def render(self, task: Task) -> Text:
        if isinstance(work := task.fields.get("work"), Work):
            return Text(f"{work.share:.0%}", style="progress.download", justify="right")
        return super().render(task)


class _Left(TimeRemainingColumn):
    """How long it still takes; a whole job tells itself, and at most."""

    def render(self, task: Task) -> Text:
        if isinstance(work := task.fields.get("work"), Work):
            left = work.left_s
            return Text("" if left is None else f"≤ {in_words(left)}", style="progress.remaining", justify="right")
        return super().render(task)


def _display() -> Progress:
    bar = min(err.width // 5, 24)
    display = Progress(
        _Label(max(err.width - bar - 22, 10)),  # numbers and time take 22 columns
        _Bar(bar_width=bar),
        _Count(),
        _Left(elapsed_when_finished=True),
        console=err,
        transient=True,
    )
    display.start()
    return display


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json_text(value, indent=2) + "\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON that stdout can carry, whatever its encoding, and that no terminal obeys."""
    as_it_is = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    return for_json(json.dumps(encode(value), ensure_ascii=not as_it_is, indent=indent))


def print_error(error: VitrifyError) -> None:
    """What, got, expected and hint on stderr; no value can begin a line that looks like another of them."""
    text = Text.assemble(("error: ", "bold red"), _inside(error.what))
    for name, value in (("got", error.got), ("expected", error.expected)):
        if value not in (None, ""):
            text.append(f"\n  {name + ':':<10}", style="dim").append(_inside(value))
    if error.hint:
        text.append("\nhint: ", style="bold green").append(_inside(error.hint))
    err.print(text, soft_wrap=True)


def _inside(value: object) -> str:
    first, *others = for_terminal(str(value), lines=True).split("\n")
    return "\n".join([first, *(line if line.startswith("   ") else f"   {line}" for line in others)])
