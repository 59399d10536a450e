"""What an epoch measured, and what follows from a confusion matrix."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import numpy.typing as npt

Confusion = npt.NDArray[np.int64]
"""`[classes, classes]` counts: the row is the true class, the column the predicted one."""


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """One row of metrics.csv.

    Attributes:
        epoch: Counted from 1.
        lr: Learning rate of the head at the epoch's first update.
        train_loss: Mean over the training images, of the loss that is minimised: smoothing and Mixup included.
        val_loss: Mean cross-entropy over the validation images, without smoothing.
        val_top1: Share of validation images whose best class is right.
        val_top5: Share whose right class is among the best five; absent for five classes and fewer.
        images_per_s: Training throughput.
        seconds: Training and validation.
    """

    epoch: int
    lr: float
    train_loss: float
    val_loss: float
    val_top1: float
    val_top5: float | None
    images_per_s: float
    seconds: float

    def better_than(self, other: EpochRow | None) -> bool:
        """Whether the top-1 is higher, or equal with a lower loss."""
        return other is None or (self.val_top1, -self.val_loss) > (other.val_top1, -other.val_loss)


def csv_of(rows: Sequence[EpochRow]) -> str:
    """The rows as CSV with a header; an absent value is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(EpochRow))
    for row in rows:
        writer.writerow("" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in astuple(row))
    return text.getvalue()


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """How one class fares.

    Attributes:
        label: The class.
        count: Validation images of it.
        precision: Share of the predictions of this class that are right, NaN where there are none.
        recall: Share of its images that are found.
    """

    label: str
    count: int
    precision: float
    recall: float


@dataclass(frozen=True, kw_only=True)
class Confused:
    """A pair of classes that are mistaken for each other.

    Attributes:
        true: The right class.
        predicted: What the model said.
        count: Validation images.
        share: Of the images of `true`.
    """

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What one pass over the validation images measured.

    Attributes:
        loss: Mean cross-entropy.
        top1: Share whose best class is right.
        top5: Share whose right class is among the best five; None for five classes and fewer.
        confusion: Counts.
    """

    loss: float
    top1: float
    top5: float | None
    confusion: Confusion


def class_scores(confusion: Confusion, labels: Sequence[str]) -> list[ClassRow]:
    """Precision and recall of every class, in the order of the labels."""
    right = confusion.diagonal().astype(float)
    predicted, true = confusion.sum(axis=0), confusion.sum(axis=1)
    precision = np.divide(right, predicted, out=np.full(len(labels), np.nan), where=predicted > 0)
    recall = np.divide(right, true, out=np.full(len(labels), np.nan), where=true > 0)
    return [
        ClassRow(label=label, count=int(true[i]), precision=float(precision[i]), recall=float(recall[i]))
        for i, label in enumerate(labels)
    ]


def worst_confusions(confusion: Confusion, labels: Sequence[str], limit: int = 10) -> list[Confused]:
    """The most frequent mistakes, at most `limit`."""
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    totals = confusion.sum(axis=1)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:limit]
    pairs = [(int(flat) // len(labels), int(flat) % len(labels)) for flat in order]
    return [
        Confused(
            true=labels[i], predicted=labels[j], count=int(mistakes[i, j]), share=float(mistakes[i, j] / totals[i])
        )
        for i, j in pairs
        if mistakes[i, j] > 0
    ]
