"""The confusion matrix and the drift of each part as pictures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vitrify.errors import MissingExtraError
from vitrify.verification.drift import FP16_MAX
from vitrify.verification.evaluation import Evaluation
from vitrify.verification.layers import LayerReport


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError("drawing needs matplotlib", extra="train", package=error.name) from error


def confusion_picture(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Draws an evaluation's confusion matrix.

    Args:
        evaluation: What was measured.
        path: A PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The picture cannot be written.
    """
    with _drawing():
        from vitrify.training.pictures import draw_confusion
    counts = np.asarray(evaluation.confusion)
    title = f"{Path(evaluation.artifact).name} on {evaluation.data}: top-1 {evaluation.top1:.2%}"
    draw_confusion(Path(path), counts, evaluation.labels, title, columns=evaluation.columns)


def drift_picture(report: LayerReport, path: str | os.PathLike[str]) -> None:
    """Draws the relative error and the largest magnitude of each part.

    Args:
        report: What was measured.
        path: A PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The picture cannot be written.
    """
    with _drawing():
        from vitrify.training.pictures import DriftLine, draw_drift
    lines = [
        DriftLine(
            label=f"{run.runtime} {run.precision}, {run.inputs}",
            parts=tuple(part.part for part in run.parts),
            errors=tuple(part.relative_error for part in run.parts),
            magnitudes=tuple(part.reference_magnitude for part in run.parts),
            finite=tuple(part.finite for part in run.parts),
            tolerance=run.tolerance,
            first=run.first,
        )
        for run in report.comparisons
    ]
    title = f"{Path(report.artifact).name} against {Path(report.reference).name} in {report.reference_runtime}"
    draw_drift(Path(path), lines, title, fp16_max=FP16_MAX)
