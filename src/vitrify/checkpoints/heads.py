"""A new head for other classes."""

from __future__ import annotations

import dataclasses

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitrify.checkpoints.model import Checkpoint
from vitrify.checkpoints.transformers import PreLogitsTransformer
from vitrify.errors import OptionError


def replace_head(checkpoint: Checkpoint, num_classes: int) -> Checkpoint:
    """Gives the model a new head, randomly initialised, for `num_classes` classes.

    The model is changed in place. The spec and the labels go, since they speak of the old classes.

    Args:
        checkpoint: What `load_checkpoint` gave.
        num_classes: Length of the new output; 0 takes the head away.

    Returns:
        The checkpoint of the same model with a source that builds it again, and a note on what was replaced.

    Raises:
        OptionError: A negative number.
    """
    if num_classes < 0:
        raise OptionError("a head cannot have a negative number of classes", got=num_classes, expected="0 or more")
    model = checkpoint.model
    assert isinstance(model, VisionTransformer)
    dropped = isinstance(model, PreLogitsTransformer)
    model.reset_classifier(num_classes)
    for head in (model.head, getattr(model, "head_dist", None)):
        if isinstance(head, nn.Linear):
            nn.init.trunc_normal_(head.weight, std=0.02)  # as timm starts a ViT; reset_classifier alone does not
            nn.init.zeros_(head.bias)
    note = f"head replaced: {checkpoint.num_classes} -> {num_classes} classes"
    if dropped:
        note += ", and the representation layer before it was left out"
    kwargs = {key: value for key, value in checkpoint.source.model_kwargs.items() if key != "representation_size"}
    return dataclasses.replace(
        checkpoint,
        source=dataclasses.replace(checkpoint.source, model_kwargs=kwargs),
        spec=None,
        labels=None,
        num_classes=num_classes,
        notes=(*checkpoint.notes, note),
    )
