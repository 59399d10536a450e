"""The confusion matrix and the drift of each part as pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from vitrify.text import for_picture
from vitrify.verification.drift import FP16_MAX
from vitrify.verification.evaluation import Evaluation
from vitrify.verification.layers import LayerReport


def confusion_picture(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Draws an evaluation's confusion matrix.

    Args:
        evaluation: What was measured.
        path: A PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The picture cannot be written.
    """
    from vitrify import plots

    counts = np.asarray(evaluation.confusion)
    title = f"{Path(evaluation.artifact).name} on {evaluation.data}: top-1 {evaluation.top1:.2%}"
    plots.confusion_matrix(Path(path), counts, evaluation.labels, title, columns=evaluation.columns)


def drift_picture(report: LayerReport, path: str | os.PathLike[str]) -> None:
    """Draws each part's relative error with the tolerance, and the reference's magnitude with fp16's limit.

    A cross is a part with values that are not finite, a ring the first part out of tolerance. An error of zero stands
    at the lower edge.

    Args:
        report: What was measured.
        path: A PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The picture cannot be written.
    """
    from vitrify import plots

    runs = report.comparisons
    names = list(dict.fromkeys(part.part for run in runs for part in run.parts))
    figure = plots.empty_figure(max(8.0, 0.42 * len(names) + 3), 6.4)
    error, magnitude = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    errors = [part.relative_error for run in runs for part in run.parts]
    tolerances = list(dict.fromkeys(run.tolerance for run in runs))
    floor = 10.0 ** (np.floor(np.log10(min(value for value in (*errors, *tolerances) if value > 0))) - 1)
    colours = [colour for colour in plots.COLOURS if colour != plots.RED]
    cross: dict[str, Any] = {"linestyle": "", "marker": "x", "markersize": 10, "markeredgewidth": 2.5}
    ring: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 14, "markeredgewidth": 1.8}
    for number, run in enumerate(runs):
        line: dict[str, Any] = {
            "color": colours[number % len(colours)],
            "linewidth": 1.8,
            "marker": "o",
            "markersize": 4,
        }
        label = for_picture(f"{run.runtime} {run.precision}, {run.inputs}")
        points = {part.part: (names.index(part.part), max(part.relative_error, floor)) for part in run.parts}
        error.plot(*zip(*points.values(), strict=True), label=label, **line)
        for bad in [part.part for part in run.parts if not part.finite]:
            error.plot(*zip(points[bad], strict=True), color=plots.RED, **cross)
        if run.first is not None:
            error.plot(*zip(points[run.first], strict=True), markeredgecolor=plots.RED, markerfacecolor="none", **ring)
        magnitude.plot([x for x, _ in points.values()], [part.reference_magnitude for part in run.parts], **line)
    limit: dict[str, Any] = {"color": plots.RED, "linestyle": "--", "linewidth": 1.2}
    for tolerance in tolerances:
        error.axhline(tolerance, label=f"tolerance {tolerance:g}", **limit)
    error.set_ylim(bottom=floor / 1.5)
    error.set_title("relative error of what leaves each part" + (" (lowest: exact)" if 0 in errors else ""))
    magnitude.axhline(FP16_MAX, label=f"fp16 overflows at {FP16_MAX:g}", **limit)
    magnitude.set_title("largest magnitude of the reference")
    plots.name_ticks(magnitude, names)
    for panel in (error, magnitude):
        panel.set_yscale("log")
        panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    plots.tidy(error, magnitude)
    title = f"{Path(report.artifact).name} against {Path(report.reference).name} in {report.reference_runtime}"
    plots.save(figure, Path(path), title)
