"""Logits to labels with probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitrify.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """One label of an answer.

    Attributes:
        label: The class name.
        index: Its place among the labels.
        probability: 0 to 1.
    """

    label: str
    index: int
    probability: float


def probabilities(scores: npt.NDArray[np.float32], spec: ModelSpec) -> npt.NDArray[np.float64]:
    """Softmax over the classes, or the sigmoid of each for a multi-label model, in float64.

    Args:
        scores: `[B, classes]`, as the network gives them.
        spec: Says whether they are logits, and whether classes exclude each other.

    Returns:
        `[B, classes]` float64 in 0..1.
    """
    values = scores.astype(np.float64)
    if spec.output.kind == "probabilities":
        return values
    if spec.output.task == "multi-label":
        return np.exp(-np.logaddexp(0, -values))
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def top_labels(row: npt.NDArray[np.float64], labels: tuple[str, ...], count: int) -> tuple[LabelScore, ...]:
    """The `count` most probable labels, best first; equal ones in the order of the labels.

    Args:
        row: `[classes]` probabilities.
        labels: One name a class.
        count: How many; fewer where there are fewer classes.
    """
    order = np.argsort(-row, kind="stable")[:count]
    return tuple(LabelScore(label=labels[i], index=int(i), probability=float(row[i])) for i in order)
