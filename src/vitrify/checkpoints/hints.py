"""What a file or its folder says of the model beside the tensors."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.checkpoints.model import Activation


@dataclass(kw_only=True)
class Hints:
    """What a file or its folder says beside the tensors.

    Attributes:
        architecture: timm's model name.
        img_size: Height and width in pixels.
        num_heads: Attention heads.
        activation: timm's name of the MLPs' activation.
        norm_eps: Epsilon of the layer norms.
        pool: What the head reads.
    """

    architecture: str | None = None
    img_size: tuple[int, int] | None = None
    num_heads: int | None = None
    activation: Activation | None = None
    norm_eps: float | None = None
    pool: str | None = None
