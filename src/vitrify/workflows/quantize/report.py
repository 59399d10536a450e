"""A precision search as files that people and machines read: JSON, a table in Markdown, and a picture."""

from __future__ import annotations

import importlib.util
import json
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrify.files import atomic_write
from vitrify.machine import saturates_8bit
from vitrify.spec import Attempt, PrecisionSearch, encode
from vitrify.workflows.quantize.limits import Loss

PICTURE = "attempts.png"


def write_report(
    search: PrecisionSearch, folder: str | os.PathLike[str], *, title: str, notes: Sequence[str] = ()
) -> tuple[Path, ...]:
    """Writes `search.json`, `report.md` and, where matplotlib is installed, `attempts.png`.

    Args:
        search: What was tried.
        folder: Where to; made if needed.
        title: What the search was about.
        notes: What its reader should know.

    Returns:
        What was written.

    Raises:
        StorageError: A file cannot be written.
    """
    folder = Path(folder)
    written = [folder / "search.json", folder / "report.md"]
    atomic_write(written[0], json.dumps(encode(search), indent=2) + "\n")
    picture = folder / PICTURE
    drawn = importlib.util.find_spec("matplotlib") is not None and _draw(search, picture, title)
    atomic_write(written[1], _markdown(search, title, notes, picture.name if drawn else ""))
    return (*written, picture) if drawn else tuple(written)


def search_notes(search: PrecisionSearch) -> list[str]:
    """What a reader of a search should know besides its table.

    Args:
        search: One that ended on this machine.
    """
    notes = [f"the search ended early: {search.stopped}"] if search.stopped else []
    taken = search.attempts[search.taken] if search.taken is not None else None
    if taken is not None and taken.lost is not None and search.allowed:
        notes += _untold(Loss(images=search.images, lost=taken.lost, gained=taken.gained), search)
    slow = [one for one in search.attempts if one.precision == "int8" and one.speedup is not None and not one.passed]
    if slow and saturates_8bit():
        notes.append(
            "this processor has no instruction for 8-bit products (VNNI), so that int8 is hardly faster than fp32 "
            "here; --no-judge-speed makes the file for one that has it"
        )
    return notes


def _untold(loss: Loss, search: PrecisionSearch) -> list[str]:
    """That the images are too few for their verdict, and how many would do; nothing where they do."""
    needed = loss.images_needed(search.allowed, search.confidence)
    if needed == 0:
        return []
    would = "just what is allowed, so that no number of such images would tell"
    if needed is not None:
        step = 10 ** (len(str(needed)) - 2)
        would = f"about {-(-needed // step) * step:,} images like these would tell"
    most = f"{100 * loss.bounds(search.confidence)[1]:.2g}"
    answers = f"of {loss.images} answers {loss.lost} "
    answers += f"{_were(loss.lost)} lost" + (f" and {loss.gained} gained" if loss.gained is not None else "")
    told = f"with {search.confidence:.0%} confidence no more than {most}% is lost"
    return [f"{answers}: {told}, but {100 * search.allowed:.2g}% is allowed; {would}"]


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _markdown(search: PrecisionSearch, title: str, notes: Sequence[str], picture: str) -> str:
    lines = [
        f"# {title}",
        "",
        f"Asked for {search.target}, with {search.runtime} on {search.machine}, batch {search.batch}.",
        f"Accuracy on {search.images} images, calibrated on {search.calibration_images}.",
        "",
        f"| recipe | {' | '.join(FIGURES)} | lost, gained (bounds of the loss, {search.confidence:.0%}) | verdict |",
        "| --- " * (len(FIGURES) + 3) + "|",
    ]
    for place, attempt in enumerate(search.attempts):
        name, verdict = outcome(search, place)
        lines.append(f"| {' | '.join((name, *figures(attempt), _lost(attempt), verdict))} |")
    for note in notes:
        lines += ["", f"Note: {note}."]
    if search.smoothed:
        lines += ["", f"Channels were scaled before {', '.join(search.smoothed)}."]
    if picture:
        lines += ["", f"![what each attempt loses, and how fast it is]({picture})"]
    return "\n".join(lines) + "\n"


FIGURES = ("top-1", "agreement", "relative error", "ms, source's in the same turn", "times as fast")
"""What `figures` gives."""


def figures(attempt: Attempt) -> tuple[str, ...]:
    """What an attempt measured, as the cells of a table row; both times and the ratio are of the same turns."""
    raced = attempt.latency_ms is not None and attempt.rival_ms is not None
    return (
        f"{attempt.top1:.2%}" if attempt.top1 is not None else "",
        f"{attempt.agreement:.2%}" if attempt.agreement is not None else "",
        f"{attempt.relative_error:.2g}" if attempt.relative_error is not None else "",
        f"{attempt.latency_ms:.3g}, {attempt.rival_ms:.3g}" if raced else "",
        _speedup(attempt),
    )


def outcome(search: PrecisionSearch, place: int) -> tuple[str, str]:
    """What an attempt was, and what became of it."""
    attempt = search.attempts[place]
    source = attempt.recipe == "source"
    name = attempt.recipe + (f", run in {attempt.asked}" if source or attempt.asked != "fp32" else "")
    held = "reference" if source else "taken" if place == search.taken else "held, and was kept in reserve"
    return name, attempt.reason or held


def _speedup(attempt: Attempt) -> str:
    """Median, and in brackets the first quartile, which has to be above 1 too."""
    if attempt.speedup is None:
        return ""
    return f"{attempt.speedup:.2f}" + (f" ({attempt.speedup_low:.2f})" if attempt.speedup_low is not None else "")


def _lost(attempt: Attempt) -> str:
    if attempt.lost is None or attempt.loss_bounds is None:
        return ""
    low, high = attempt.loss_bounds
    counts = f"{attempt.lost}" + (f", {attempt.gained}" if attempt.gained is not None else "")
    return f"{counts} ({100 * low:.2f}% to {100 * high:.2f}%)"


def _draw(search: PrecisionSearch, path: Path, title: str) -> bool:
    """A row an attempt: its loss with bounds, and its speed beside the source in the same turns. False without any."""
    from vitrify import plots

    rows = search.attempts
    if all(row.loss_bounds is None for row in rows):
        return False
    figure = plots.empty_figure(10.5, 1.9 + 0.55 * len(rows))
    raced = any(row.speedup is not None for row in rows)
    panels: Any = figure.subplots(1, 2 if raced else 1, sharey=True, squeeze=False)[0]
    _draw_losses(panels[0], search)
    if raced:
        _draw_speeds(panels[1], search)
    names = [textwrap.fill(outcome(search, place)[0], 30) for place in range(len(rows))]
    panels[0].set_yticks(range(len(rows)), names, fontsize=9)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    plots.tidy(*panels)
    for axes in panels:
        axes.grid(visible=False, axis="y")
    plots.save(figure, path, title)
    return True


def _draw_losses(axes: Any, search: PrecisionSearch) -> None:
    from vitrify import plots

    for place, row in enumerate(search.attempts):
        if row.lost is None or row.loss_bounds is None:
            axes.annotate("not judged", (0, place), va="center", fontsize=8, color=plots.GREY)
            continue
        share = 100 * (row.lost - (row.gained or 0)) / search.images
        low, high = (100 * bound for bound in row.loss_bounds)
        # What was raced was accurate enough, whatever its speed.
        _bar(axes, row, place, (low, share, high), good=row.passed or row.speedup is not None)
    _line(axes, 100 * search.allowed, "allowed")
    what = "points of top-1 lost" if search.max_drop is not None else "answers changed, %"
    axes.set_xlabel(f"{what}, {search.images} images\n(bars: bounds, {search.confidence:.0%} confidence)")


def _draw_speeds(axes: Any, search: PrecisionSearch) -> None:
    for place, row in enumerate(search.attempts):
        if row.speedup is None or row.speedup_low is None:
            continue
        _bar(axes, row, place, (min(row.speedup_low, row.speedup), row.speedup, row.speedup), good=row.passed)
        axes.annotate(
            f"{row.latency_ms:.3g} ms, {row.rival} {row.rival_ms:.3g} ms",
            (row.speedup, place),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    _line(axes, 1, "")
    _line(axes, search.min_speedup or 1, "asked for")
    axes.set_xlabel(
        f"times as fast as the source in the same turns\n(bars: from the first quartile; {search.runtime}, "
        f"batch {search.batch})"
    )
    axes.margins(x=0.4)


def _bar(axes: Any, row: Attempt, place: int, at: tuple[float, float, float], *, good: bool) -> None:
    from vitrify import plots

    low, middle, high = at
    axes.errorbar(
        [middle], [place], xerr=[[max(middle - low, 0)], [max(high - middle, 0)]], capsize=3,
        fmt="s" if row.recipe == "source" else "o" if row.passed else "x",
        color=plots.GREY if row.recipe == "source" else plots.GREEN if good else plots.RED,
    )  # fmt: skip


def _line(axes: Any, place: float, label: str) -> None:
    from vitrify import plots

    axes.axvline(place, color=plots.GREY, linewidth=1, linestyle="--" if label else "-")
    axes.annotate(
        label, (place, 1), xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points",
        va="bottom", fontsize=8, color=plots.GREY,
    )  # fmt: skip
