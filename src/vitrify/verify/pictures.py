"""The confusion matrix as a picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vitrify.errors import MissingExtraError
from vitrify.verify.evaluation import Evaluation


def confusion_picture(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Draws an evaluation's confusion matrix.

    Args:
        evaluation: What was measured.
        path: A PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The picture cannot be written.
    """
    try:
        from vitrify.training.pictures import draw_confusion
    except ModuleNotFoundError as error:
        raise MissingExtraError("drawing needs matplotlib", extra="train", package=error.name) from error
    counts = np.asarray(evaluation.confusion)
    title = f"{Path(evaluation.artifact).name} on {evaluation.data}: top-1 {evaluation.top1:.2%}"
    draw_confusion(Path(path), counts, evaluation.labels, title, columns=evaluation.columns)
