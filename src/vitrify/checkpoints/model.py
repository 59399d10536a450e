"""What loading gives, and what the user may decide about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from vitrify.spec import ModelSpec, Preprocess, Source

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"]
Pool = Literal["token", "avg", "token_avg"]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A Vision Transformer with its weights, and everything the file told about it.

    Attributes:
        model: timm's model, in evaluation mode, float32, on the CPU.
        source: Where the weights come from and how to build the same model again.
        spec: The full model spec, where the file carries one.
        preprocess: From pixels to the model's input: of the spec, else of a Hugging Face `preprocessor_config.json`
            beside the weights, else of timm's data config for this architecture.
        labels: One name a class, where the file or its folder tells them.
        num_classes: Length of the model's output, 0 for a backbone without a head.
        notes: Decisions that were taken for the user, one sentence each.
    """

    model: nn.Module
    source: Source
    spec: ModelSpec | None
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    num_classes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What the user decides where tensors alone do not tell. Nothing here is needed for a common checkpoint.

    Attributes:
        architecture: timm's model name to build on, such as vit_base_patch16_224; it also decides what shapes do not
            show: head count, activation, norm epsilon and pooling.
        num_heads: Attention heads in each block; shapes do not show them.
        img_size: Image side in pixels, or height and width. It tells the shape of the position grid where that is not
            square; any other size resamples the position embedding to it.
        activation: Activation function of the MLPs; tensors do not show it.
        norm_eps: Epsilon of the layer norms; tensors do not show it.
        pool: What the head reads: the class token, the mean of the patch tokens, or both one after the other.
        raw_weights: Take the raw weights even where the file also holds their exponential moving average (EMA).
    """

    architecture: str | None = None
    num_heads: int | None = None
    img_size: tuple[int, ...] | None = None
    activation: Activation | None = None
    norm_eps: float | None = None
    pool: Pool | None = None
    raw_weights: bool = False
