"""Figures without a display or matplotlib's global state: one style, names that are no formulas, whole files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrify.errors import MissingExtraError
from vitrify.files import atomic_path
from vitrify.text import for_picture, for_terminal

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ModuleNotFoundError as error:
    raise MissingExtraError("drawing needs matplotlib", extra="train", package=error.name) from error

BLUE, ORANGE, GREEN, PURPLE, RED, GREY = "#1f6feb", "#d9730d", "#1a7f37", "#8250df", "#cf222e", "#57606a"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY, "#bf3989", "#0a7ea4")
"""Of lines that stand for different things, in this order."""

_LABELLED_CLASSES = 60
_COUNTED_CLASSES = 25
_LABEL_LENGTH = 18


def empty_figure(width: float, height: float) -> Figure:
    """A figure, in inches, whose panels make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


def tidy(*panels: Axes) -> None:
    """Faint lines behind, no frame above and at the right."""
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)


def save(figure: Figure, path: Path, title: str = "") -> None:
    """Writes a figure as a PNG file, with a title above all panels.

    Raises:
        StorageError: It cannot be written; what stood there is still there.
    """
    if title:
        figure.suptitle(for_picture(title, lines=True), fontsize=12, fontweight="bold")
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, facecolor="white", bbox_inches="tight", pad_inches=0.15)


def name_ticks(axes: Axes, names: Sequence[str], **style: Any) -> None:
    """Names along the horizontal axis, slanted where they would run into each other."""
    long = max(map(len, names)) > 3
    axes.set_xticks(
        range(len(names)),
        [for_picture(name) for name in names],
        rotation=60 if long else 0,
        ha="right" if long else "center",
        rotation_mode="anchor" if long else "default",
        **style,
    )


def confusion_matrix(
    path: Path,
    counts: npt.NDArray[np.int64],
    labels: Sequence[str],
    title: str,
    *,
    columns: Sequence[str] | None = None,
) -> None:
    """Draws a confusion matrix, each row as shares of its true class.

    Up to 25 classes show their counts, up to 60 their names; beyond that the axes show class indices.

    Args:
        path: A PNG file.
        counts: `[classes, columns]`, true classes in rows.
        labels: One name a class.
        title: Above the matrix.
        columns: What the columns stand for, where they are not the classes alone.

    Raises:
        StorageError: As `save`.
    """
    columns = columns or labels
    count = len(columns)
    cell = 0.62 if count <= 12 else 0.42 if count <= _COUNTED_CLASSES else 0.24 if count <= _LABELLED_CLASSES else 0.09
    side = min(20.0, max(4.2, cell * count))
    figure = empty_figure(side + 2.4, side + 1.6)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= _LABELLED_CLASSES:
        names = [_shortened(for_terminal(column)) for column in columns]
        size = 9 if count <= _COUNTED_CLASSES else 7
        name_ticks(axes, names, fontsize=size)
        axes.set_yticks(range(len(labels)), [for_picture(name) for name in names[: len(labels)]], fontsize=size)
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.tick_params(which="major", length=0)
    if count <= _COUNTED_CLASSES:
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[i, j] > 0.55 else "#1f2328"
            size = 10 if count <= 12 else 7
            axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", fontsize=size, color=colour)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)
    axes.set_title(for_picture(title, lines=True), fontsize=12, fontweight="bold", pad=12)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=30, format=PercentFormatter(1.0))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    save(figure, path)


def _shortened(label: str) -> str:
    """Cut in the middle: long names of one data set differ at either end."""
    half = _LABEL_LENGTH // 2
    return label if len(label) <= _LABEL_LENGTH else f"{label[:half]}…{label[-half:]}"
