"""A precision search as files that people and machines read: JSON, a table in Markdown, and a picture."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrify.files import atomic_path, atomic_write
from vitrify.spec import Attempt, PrecisionSearch, encode

_COLOURS = {"fp32": "#4c4c4c", "bf16": "#1f77b4", "fp16": "#2ca02c", "int8": "#d62728", "fp8": "#9467bd"}


def write_report(
    search: PrecisionSearch, folder: str | os.PathLike[str], *, title: str, notes: Sequence[str] = ()
) -> tuple[Path, ...]:
    """Writes `search.json`, `report.md` and, where matplotlib is installed, `accuracy_latency.png`.

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
    picture = folder / "accuracy_latency.png"
    drawn = importlib.util.find_spec("matplotlib") is not None and _draw(search, picture, title)
    atomic_write(written[1], _markdown(search, title, notes, picture.name if drawn else ""))
    return (*written, picture) if drawn else tuple(written)


def _markdown(search: PrecisionSearch, title: str, notes: Sequence[str], picture: str) -> str:
    lines = [
        f"# {title}",
        "",
        f"Asked for {search.target}, with {search.runtime} on {search.machine}, batch {search.batch}.",
        f"Accuracy on {search.images} images, calibrated on {search.calibration_images}.",
        "",
        "| recipe | run in | top-1 | agreement | relative error | latency | speedup | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += ["| " + " | ".join(cells(attempt)) + " |" for attempt in search.attempts]
    for note in notes:
        lines += ["", f"Note: {note}."]
    if search.smoothed:
        lines += ["", f"Channels were scaled before {', '.join(search.smoothed)}."]
    if picture:
        lines += ["", f"![accuracy against latency]({picture})"]
    return "\n".join(lines) + "\n"


def cells(attempt: Attempt) -> tuple[str, ...]:
    """An attempt as the cells of a table row."""
    return (
        attempt.recipe,
        attempt.asked if attempt.asked != "fp32" else attempt.precision,
        f"{attempt.top1:.2%}" if attempt.top1 is not None else "",
        f"{attempt.agreement:.2%}",
        f"{attempt.relative_error:.2g}",
        f"{attempt.latency_ms:.3g} ms" if attempt.latency_ms is not None else "",
        _speedup(attempt),
        attempt.reason or ("reference" if attempt.recipe == "source" else "taken"),
    )


def _speedup(attempt: Attempt) -> str:
    """Median, and in brackets the first quartile, which has to be above 1 too."""
    if attempt.speedup is None:
        return ""
    return f"{attempt.speedup:.2f}" + (f" ({attempt.speedup_low:.2f})" if attempt.speedup_low is not None else "")


def _draw(search: PrecisionSearch, path: Path, title: str) -> bool:
    """Accuracy against latency; False where no attempt was timed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    timed = [attempt for attempt in search.attempts if attempt.latency_ms is not None]
    if not timed:
        return False
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for attempt in timed:
        height = 100 * (attempt.top1 if attempt.top1 is not None else attempt.agreement)
        label = f"source, {attempt.asked}" if attempt.recipe == "source" else attempt.recipe
        axes.scatter(
            attempt.latency_ms,
            height,
            s=70,
            color=_COLOURS[attempt.asked if attempt.recipe == "source" else attempt.precision],
            marker="s" if attempt.recipe == "source" else ("o" if attempt.passed else "x"),
            label=label,
        )
    floor = _floor(search)
    axes.axhline(floor, color="#999999", linewidth=1, linestyle="--")
    axes.annotate("least that is accepted", (0.99, floor), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    axes.set_xlim(left=0)
    axes.margins(y=0.2)
    axes.set_xlabel(f"median latency of a batch of {search.batch}, ms ({search.runtime})")
    axes.set_ylabel("top-1, %" if search.max_drop is not None else "answers of the source, %")
    axes.set_title(title)
    axes.legend(fontsize="small")
    axes.grid(visible=True, alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return True


def _floor(search: PrecisionSearch) -> float:
    if search.max_drop is not None:
        return 100 * ((search.attempts[0].top1 or 0.0) - search.max_drop)
    return 100 * (search.min_agreement or 0.0)
