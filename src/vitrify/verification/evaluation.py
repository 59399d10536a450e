"""Accuracy on the user's own folder, and what changed against another artifact."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrify.classifier import Classifier, Failure, Prediction
from vitrify.datasets import ImageFolder, scan_folder
from vitrify.errors import DatasetError
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import pick_runtime
from vitrify.spec import Result

OTHER = "(other)"
"""The confusion matrix's column for answers that the folder has no class for."""


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How one class fared.

    Attributes:
        label: The class.
        precision: Of the images that got this label, the share that has it; None where none got it.
        recall: Of the images that have this label, the share that got it.
        support: Images that have this label.
    """

    label: str
    precision: float | None
    recall: float
    support: int


@dataclass(frozen=True, kw_only=True)
class Flip:
    """An image that two artifacts answer differently.

    Attributes:
        path: The image.
        truth: Its label.
        answer: The artifact's answer.
        reference: The reference's answer.
    """

    path: str
    truth: str
    answer: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class Evaluation(Result):
    """What an artifact is worth on a labelled folder.

    Attributes:
        artifact: The file.
        runtime: What ran it.
        precision: In which arithmetic.
        data: The folder.
        count: Images that were answered.
        top1: Share whose best label is right.
        top1_interval: 95% confidence interval of `top1`.
        top5: Share whose five best labels hold the right one; None where there are no more than five classes.
        per_class: Each class of the folder.
        labels: Rows of `confusion`; see `columns` for the others.
        confusion: `[truth][answer]` counts.
        failures: Path and reason of each image that could not be read; they count nowhere else.
        reference: The other artifact, empty where there is none.
        flips: Images whose answer differs from the reference's.
        images_per_s: Whole pipeline, files to labels, without the reference.
    """

    artifact: str
    runtime: str
    precision: str
    data: str
    count: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float | None
    per_class: tuple[ClassScore, ...]
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    failures: tuple[tuple[str, str], ...]
    reference: str
    flips: tuple[Flip, ...]
    images_per_s: float

    @property
    def columns(self) -> tuple[str, ...]:
        """What the columns of `confusion` stand for."""
        return (*self.labels, OTHER) if len(self.confusion[0]) > len(self.labels) else self.labels


def evaluate_folder(
    classifier: Classifier,
    data: str | os.PathLike[str],
    *,
    reference: str | os.PathLike[str] | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """`evaluate` on a folder by name.

    Args:
        classifier: What is judged.
        data: `data/<class>/*`; where there are `data/train` and `data/val`, the latter is taken, and that is said.
        reference: Another artifact, or a checkpoint where PyTorch is installed.
        progress: Told of each image.

    Raises:
        DatasetError: As `evaluate`, or no labelled images there.
        ArtifactError, CheckpointError: The reference cannot be used.
    """
    data = Path(data)
    if (data / "train").is_dir() and (data / "val").is_dir():
        progress.say(f"{data} has train/ and val/: evaluating {data / 'val'}")
        data = data / "val"
    folder = scan_folder(data, minimum_classes=1)
    if reference is None:
        return evaluate(classifier, folder, progress=progress)
    like = pick_runtime(reference).understood(like=classifier.spec)  # a foreign checkpoint's labels
    alike = dataclasses.replace(classifier.options, runtime="auto", precision="fp32", pixels="auto", self_test="auto")
    with Classifier(reference, alike, **like) as other:
        return evaluate(classifier, folder, reference=other, progress=progress)


def evaluate(
    classifier: Classifier,
    folder: ImageFolder,
    *,
    reference: Classifier | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Answers every image and compares with its folder's name.

    Args:
        classifier: What is judged.
        folder: Labelled images; its class names are matched with the artifact's labels by name.
        reference: Another artifact with the same labels; images that it answers differently are listed.
        progress: Told of each image.

    Raises:
        DatasetError: A class that the artifact does not know, or no image could be read.
    """
    columns = class_columns(folder, classifier.labels, classifier.path)
    if reference is not None:
        class_columns(folder, reference.labels, reference.path)
    position = {index: row for row, index in enumerate(columns)}
    confusion = np.zeros((len(columns), len(columns) + 1), np.int64)
    in_top5 = 0
    labels: list[str | None] = []
    failures: list[tuple[str, str]] = []
    start = time.perf_counter()
    for (path, truth), answer in _answers(classifier, folder, progress):
        labels.append(None if isinstance(answer, Failure) else answer.label)
        if isinstance(answer, Failure):
            failures.append((str(path), answer.error.what))
            continue
        confusion[truth, position.get(answer.top[0].index, len(columns))] += 1
        in_top5 += _rank(answer.logits, columns[truth]) < 5
    seconds = time.perf_counter() - start
    flips: list[Flip] = []
    for label, ((path, truth), other) in zip(
        labels, _answers(reference, folder, progress) if reference else (), strict=False
    ):
        if label is not None and isinstance(other, Prediction) and other.label != label:
            flips.append(Flip(path=str(path), truth=folder.labels[truth], answer=label, reference=other.label))
    count = int(confusion.sum())
    if not count:
        raise DatasetError(
            f"no image of {folder.root} could be read", got=f"{failures[0][0]}: {failures[0][1]}", expected="images"
        )
    right = int(np.trace(confusion))
    return Evaluation(
        artifact=str(classifier.path),
        runtime=classifier.runtime.name,
        precision=classifier.spec.computed_in(classifier.runtime.options.precision),
        data=str(folder.root),
        count=count,
        top1=right / count,
        top1_interval=wilson_interval(right, count),
        top5=in_top5 / count if len(classifier.labels) > 5 else None,
        per_class=tuple(_class_score(label, row, confusion) for row, label in enumerate(folder.labels)),
        labels=folder.labels,
        confusion=_rows(confusion),
        failures=tuple(failures),
        reference=str(reference.path) if reference is not None else "",
        flips=tuple(flips),
        images_per_s=count / seconds,
    )


def _answers(
    classifier: Classifier, folder: ImageFolder, progress: Progress
) -> Iterator[tuple[tuple[Path, int], Prediction | Failure]]:
    samples = progress.track(folder.samples, label=f"evaluating {classifier.path.name}")
    return zip(samples, classifier.stream(folder.paths), strict=True)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95% score interval of a proportion.

    It stays inside 0..1 and holds near both ends, where the usual normal interval does not: E. B. Wilson, "Probable
    Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927).

    Args:
        successes: 0 to `trials`.
        trials: At least 1.

    Returns:
        Lower and upper bound, each in 0..1.
    """
    z = 1.959963984540054  # the normal distribution's 97.5% quantile
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def class_columns(folder: ImageFolder, labels: tuple[str, ...], artifact: str | os.PathLike[str]) -> list[int]:
    """The logit of each of a folder's classes, matched by name.

    Raises:
        DatasetError: A class that the artifact does not know.
    """
    unknown = [label for label in folder.labels if label not in labels]
    if unknown:
        close = difflib.get_close_matches(unknown[0], labels, n=3)
        raise DatasetError(
            f"{folder.root} has a class that {artifact} does not know",
            got=", ".join(unknown[:5]),
            expected="folders named " + ", ".join(labels[:8]) + (", …" if len(labels) > 8 else ""),
            hint=f"did you mean {' or '.join(close)}?" if close else "rename the folders, or name another artifact",
        )
    return [labels.index(label) for label in folder.labels]


def _rank(logits: npt.NDArray[np.float32], index: int) -> int:
    # Ties count against the answer: a network that says the same of every class knows nothing.
    return int((logits >= logits[index]).sum()) - 1


def _class_score(label: str, row: int, confusion: npt.NDArray[np.int64]) -> ClassScore:
    right, support, answered = int(confusion[row, row]), int(confusion[row].sum()), int(confusion[:, row].sum())
    return ClassScore(
        label=label,
        precision=right / answered if answered else None,
        recall=right / support if support else 0.0,
        support=support,
    )


def _rows(confusion: npt.NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    needed = confusion if confusion[:, -1].any() else confusion[:, :-1]
    return tuple(tuple(int(count) for count in row) for row in needed)
