"""Curves, a confusion matrix and the drift of a network's parts, without a display or matplotlib's global state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from vitrify.files import atomic_path
from vitrify.text import for_picture, for_terminal
from vitrify.training.metrics import Confusion, EpochRow

_BLUE, _ORANGE, _GREY = "#1f6feb", "#d9730d", "#57606a"
_GREEN, _RED, _PURPLE = "#1a7f37", "#cf222e", "#8250df"
_LABELLED_CLASSES = 60
_COUNTED_CLASSES = 25
_LABEL_LENGTH = 18


@dataclass(frozen=True, kw_only=True)
class DriftLine:
    """One comparison in the picture of the drift.

    Attributes:
        label: For the legend.
        parts: Names, in the network's order.
        errors: Relative error of each part, at least 0.
        magnitudes: Largest absolute value of the reference in each part.
        finite: Whether each part is finite on both sides.
        tolerance: Largest relative error that passes.
        first: The first part that did not.
    """

    label: str
    parts: tuple[str, ...]
    errors: tuple[float, ...]
    magnitudes: tuple[float, ...]
    finite: tuple[bool, ...]
    tolerance: float
    first: str | None


def draw_curves(path: Path, rows: Sequence[EpochRow], best: EpochRow, title: str) -> None:
    """Draws losses, validation accuracy and learning rate over the epochs.

    Args:
        path: A PNG file.
        rows: At least one epoch.
        best: Is marked.
        title: Above the panels.
    """
    figure = Figure(figsize=(12.5, 4.2), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=[5, 5, 3])
    loss, accuracy, rate = axes
    epochs = [row.epoch for row in rows]
    style: dict[str, Any] = {"linewidth": 1.8, "marker": "o" if len(rows) <= 15 else "", "markersize": 3.5}
    loss.plot(epochs, [row.train_loss for row in rows], color=_BLUE, label="training", **style)
    loss.plot(epochs, [row.val_loss for row in rows], color=_ORANGE, label="validation", **style)
    loss.set_title("loss")
    loss.set_ylim(bottom=0)
    accuracy.plot(epochs, [row.val_top1 for row in rows], color=_ORANGE, label="top-1", **style)
    top5 = [row.val_top5 for row in rows if row.val_top5 is not None]
    if len(top5) == len(rows):
        accuracy.plot(epochs, top5, color=_GREY, label="top-5", **style)
    accuracy.plot(
        [best.epoch],
        [best.val_top1],
        linestyle="",
        marker="*",
        markersize=13,
        color="#1a7f37",
        label=f"best: {best.val_top1:.2%}, epoch {best.epoch}",
        zorder=5,
    )
    accuracy.set_title("validation accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    rate.plot(epochs, [row.lr for row in rows], color=_GREY, **style)
    rate.set_title("learning rate")
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for panel in axes:
        _tidy(panel, len(rows))
    loss.legend(frameon=False)
    accuracy.legend(frameon=False, loc="lower right")
    figure.suptitle(for_picture(title, lines=True), fontsize=12, fontweight="bold")
    _save(figure, path)


def draw_confusion(
    path: Path, confusion: Confusion, labels: Sequence[str], title: str, *, columns: Sequence[str] | None = None
) -> None:
    """Draws the confusion matrix, each row as shares of its true class.

    Up to 25 classes show their counts, up to 60 their names; beyond that the axes show class indices.

    Args:
        path: A PNG file.
        confusion: Counts, true classes in rows.
        labels: One name a class.
        title: Above the matrix.
        columns: What the columns stand for, where they are not the classes alone.
    """
    columns = columns or labels
    count = len(columns)
    cell = 0.62 if count <= 12 else 0.42 if count <= _COUNTED_CLASSES else 0.24 if count <= _LABELLED_CLASSES else 0.09
    side = min(20.0, max(4.2, cell * count))
    figure = Figure(figsize=(side + 2.4, side + 1.6), layout="constrained")
    axes = figure.subplots()
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shares = confusion / totals
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    _name_classes(axes, labels, columns)
    if count <= _COUNTED_CLASSES:
        size = 10 if count <= 12 else 7
        for i, j in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[i, j] > 0.55 else "#1f2328"
            axes.text(j, i, f"{confusion[i, j]}", ha="center", va="center", fontsize=size, color=colour)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)
    axes.set_title(for_picture(title, lines=True), fontsize=12, fontweight="bold", pad=12)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=30, format=PercentFormatter(1.0))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    _save(figure, path)


def draw_drift(path: Path, lines: Sequence[DriftLine], title: str, *, fp16_max: float) -> None:
    """Draws each part's relative error with the tolerance, and the reference's magnitude with fp16's limit.

    A cross is a part with values that are not finite, a ring the first part out of tolerance. An error of zero stands
    at the lower edge.

    Args:
        path: A PNG file.
        lines: At least one comparison; all have the parts of one network.
        title: Above the panels.
        fp16_max: The largest finite float16.
    """
    parts = list(dict.fromkeys(part for line in lines for part in line.parts))
    places = {part: place for place, part in enumerate(parts)}
    figure = Figure(figsize=(max(8.0, 0.42 * len(parts) + 3), 6.4), layout="constrained")
    error, magnitude = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    seen = [value for line in lines for value in (*line.errors, line.tolerance) if value > 0]
    floor = 10.0 ** (np.floor(np.log10(min(seen))) - 1)
    colours = (_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY)
    for number, line in enumerate(lines):
        colour = colours[number % len(colours)]
        x = [places[part] for part in line.parts]
        y = [max(value, floor) for value in line.errors]
        error.plot(x, y, color=colour, linewidth=1.8, marker="o", markersize=4, label=for_picture(line.label))
        bad = [(a, b) for a, b, fine in zip(x, y, line.finite, strict=True) if not fine]
        if bad:
            error.plot(
                *zip(*bad, strict=True), linestyle="", marker="x", markersize=10, markeredgewidth=2.5, color=_RED
            )
        if line.first is not None:
            place = line.parts.index(line.first)
            style: dict[str, Any] = {"markersize": 14, "markeredgewidth": 1.8, "markerfacecolor": "none"}
            error.plot([x[place]], [y[place]], linestyle="", marker="o", markeredgecolor=_RED, **style)
        magnitude.plot(x, line.magnitudes, color=colour, linewidth=1.8, marker="o", markersize=4)
    for tolerance in dict.fromkeys(line.tolerance for line in lines):
        error.axhline(tolerance, color=_RED, linestyle="--", linewidth=1.2, label=f"tolerance {tolerance:g}")
    error.set_yscale("log")
    error.set_ylim(bottom=floor / 1.5)
    exact = any(value == 0 for line in lines for value in line.errors)
    error.set_title("relative error of what leaves each part" + (" (lowest: exact)" if exact else ""))
    error.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    magnitude.axhline(fp16_max, color=_RED, linestyle="--", linewidth=1.2, label=f"fp16 overflows at {fp16_max:g}")
    magnitude.set_yscale("log")
    magnitude.set_title("largest magnitude of the reference")
    magnitude.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    long = max(map(len, parts)) > 3
    magnitude.set_xticks(
        range(len(parts)),
        [for_picture(part) for part in parts],
        rotation=60 if long else 0,
        ha="right" if long else "center",
        rotation_mode="anchor" if long else "default",
    )
    for panel in (error, magnitude):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
    figure.suptitle(for_picture(title, lines=True), fontsize=12, fontweight="bold")
    _save(figure, path)


def _name_classes(axes: Axes, labels: Sequence[str], columns: Sequence[str]) -> None:
    count = len(columns)
    if count <= _LABELLED_CLASSES:
        names = [for_picture(_shortened(for_terminal(column))) for column in columns]
        long = max(map(len, names)) > 3
        size = 9 if count <= _COUNTED_CLASSES else 7
        axes.set_xticks(
            range(count),
            names,
            rotation=60 if long else 0,
            ha="right" if long else "center",
            rotation_mode="anchor" if long else "default",
            fontsize=size,
        )
        axes.set_yticks(range(len(labels)), names[: len(labels)], fontsize=size)
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.tick_params(which="major", length=0)


def _shortened(label: str) -> str:
    """Cut in the middle: long names of one data set differ at either end."""
    half = _LABEL_LENGTH // 2
    return label if len(label) <= _LABEL_LENGTH else f"{label[:half]}…{label[-half:]}"


def _tidy(axes: Axes, epochs: int) -> None:
    axes.set_xlabel("epoch")
    axes.set_xlim(1 - max(0.5, epochs / 40), epochs + max(0.5, epochs / 40))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, facecolor="white", bbox_inches="tight", pad_inches=0.15)
