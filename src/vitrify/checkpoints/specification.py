"""The spec of a checkpoint, its own or made from what loading found out."""

from __future__ import annotations

from vitrify.checkpoints.model import Checkpoint
from vitrify.errors import CheckpointError, OptionError
from vitrify.spec import InputSpec, ModelSpec


def spec_from_checkpoint(checkpoint: Checkpoint, *, labels: tuple[str, ...] | None = None) -> ModelSpec:
    """Describes a classifier.

    Args:
        checkpoint: What loading gave.
        labels: One name a class; without them the file's own, or else `class 0`, `class 1`, …

    Raises:
        CheckpointError: A backbone without a head has nothing to classify with.
        OptionError: Labels that are not one a class.
    """
    classes = checkpoint.num_classes
    if classes < 1:
        raise CheckpointError(
            f"{checkpoint.source.checkpoint or 'the checkpoint'} is a backbone without a head",
            expected="a classifier",
            hint="train a head on it first: vitrify train DATA --init CHECKPOINT --freeze backbone",
        )
    if labels is not None and len(labels) != classes:
        raise OptionError("labels and classes differ", got=f"{len(labels)} labels", expected=f"{classes}, one a class")
    if checkpoint.spec is not None:
        return checkpoint.spec if labels is None else checkpoint.spec.replace(labels=labels)
    preprocess = checkpoint.preprocess
    return ModelSpec(
        input=InputSpec(height=preprocess.crop_height, width=preprocess.crop_width),
        preprocess=preprocess,
        labels=labels or checkpoint.labels or tuple(f"class {index}" for index in range(classes)),
        source=checkpoint.source,
    )
