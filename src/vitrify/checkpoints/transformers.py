"""Two forward passes that timm's `VisionTransformer` cannot express, each under timm's own tensor names."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn


class PreLogits(nn.Module):
    """A linear layer and tanh, `[B, width] -> [B, size]`, between the pooled token and the head."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps `[B, width]` to `[B, size]`, each value in -1..1."""
        return torch.tanh(self.fc(x))


class PreLogitsTransformer(VisionTransformer):
    """A ViT with the representation layer of the original ImageNet-21k training, which timm dropped in 2022."""

    pre_logits: nn.Module

    @classmethod
    def adopt(cls, model: VisionTransformer, size: int) -> PreLogitsTransformer:
        """Turns a plain model into one with a representation of `size` numbers."""
        # timm's entry points fix the class that they build, and only the head's forward differs here.
        model.__class__ = cls
        assert isinstance(model, cls)
        model.pre_logits = PreLogits(model.embed_dim, size)
        model.head_hidden_size = size
        if model.num_classes > 0:
            model.head = nn.Linear(size, model.num_classes)
        return model

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Pools `[B, N, width]` tokens and maps them to `[B, classes]` logits."""
        x = self.head_drop(self.pre_logits(self.fc_norm(self.pool(x))))
        return x if pre_logits else self.head(x)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Makes a new linear head. The representation layer goes with the old head that it was trained for."""
        self.pre_logits = nn.Identity()
        self.head_hidden_size = self.embed_dim
        super().reset_classifier(num_classes, global_pool)


class TokenAvgTransformer(VisionTransformer):
    """A ViT whose head reads the class token and the mean of the patch tokens, one after the other (DINOv2)."""

    @classmethod
    def adopt(cls, model: VisionTransformer) -> TokenAvgTransformer:
        """Turns a model that was built without pooling into one that concatenates class token and mean."""
        model.__class__ = cls  # as above
        assert isinstance(model, cls)
        model.head_hidden_size = 2 * model.embed_dim
        if model.num_classes > 0:
            model.head = nn.Linear(2 * model.embed_dim, model.num_classes)
        return model

    def pool(self, x: torch.Tensor, pool_type: str | None = None) -> torch.Tensor:
        """Pools `[B, N, width]` tokens to `[B, 2 * width]`."""
        return torch.cat([x[:, 0], x[:, self.num_prefix_tokens :].mean(dim=1)], dim=1)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Makes a new linear head over the same two vectors."""
        if global_pool not in (None, "", "token_avg"):
            raise ValueError(f"this head reads the class token and the mean of the patch tokens, not {global_pool!r}")
        self.num_classes = num_classes
        weight = self.cls_token
        self.head = nn.Linear(2 * self.embed_dim, num_classes).to(weight) if num_classes > 0 else nn.Identity()
        self.head.train(self.training)
