from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from vitrify.checkpoints import load_checkpoint

Randomise = Callable[[nn.Module], nn.Module]
Images = Callable[..., torch.Tensor]


def reference(weights: dict[str, torch.Tensor], x: torch.Tensor, *, heads: int) -> torch.Tensor:
    """ViT with a representation layer, in plain functions: the logits that the tutorial's model gives."""

    def linear(name: str, value: torch.Tensor) -> torch.Tensor:
        return F.linear(value, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, value: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(value, value.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)

    patch = weights["patch_embed.proj.weight"]
    x = F.conv2d(x, patch, weights["patch_embed.proj.bias"], stride=patch.shape[-1]).flatten(2).transpose(1, 2)
    x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x], dim=1) + weights["pos_embed"]
    block = 0
    while f"blocks.{block}.norm1.weight" in weights:
        stem = f"blocks.{block}"
        batch, tokens, width = x.shape
        qkv = linear(f"{stem}.attn.qkv", norm(f"{stem}.norm1", x)).reshape(batch, tokens, 3, heads, width // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) * (width // heads) ** -0.5).softmax(dim=-1) @ v
        x = x + linear(f"{stem}.attn.proj", attention.transpose(1, 2).reshape(batch, tokens, width))
        x = x + linear(f"{stem}.mlp.fc2", F.gelu(linear(f"{stem}.mlp.fc1", norm(f"{stem}.norm2", x))))
        block += 1
    return linear("head", torch.tanh(linear("pre_logits.fc", norm("norm", x)[:, 0])))


def tutorial_weights(randomise: Randomise, *, classes: int, size: int = 128) -> dict[str, torch.Tensor]:
    model = randomise(
        timm.create_model(
            "vit_base_patch16_224", num_classes=classes, img_size=48, patch_size=8, embed_dim=128, depth=2, num_heads=2
        )
    )
    weights: dict[str, torch.Tensor] = dict(model.state_dict())
    weights["pre_logits.fc.weight"] = 0.2 * torch.randn(size, 128)
    weights["pre_logits.fc.bias"] = 0.2 * torch.randn(size)
    weights["head.weight"] = 0.2 * torch.randn(classes, size)
    return weights


@pytest.mark.parametrize("size", [128, 96])
def test_representation_layer_is_applied(tmp_path: Path, randomise: Randomise, images: Images, size: int) -> None:
    weights = tutorial_weights(randomise, classes=5, size=size)
    torch.save(weights, tmp_path / "vit-model-9.pth")
    loaded = load_checkpoint(tmp_path / "vit-model-9.pth")
    torch.testing.assert_close(loaded.model(images(48)), reference(weights, images(48), heads=2), atol=1e-5, rtol=1e-5)
    assert loaded.source.dialect == "tutorial"
    assert loaded.source.model_kwargs["representation_size"] == size


def test_past_timm_with_its_own_21843_classes(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    weights = tutorial_weights(randomise, classes=21843)
    torch.save(weights, tmp_path / "jx_vit_base_patch16_224_in21k-e5005f0a.pth")
    loaded = load_checkpoint(tmp_path / "jx_vit_base_patch16_224_in21k-e5005f0a.pth")
    torch.testing.assert_close(loaded.model(images(48)), reference(weights, images(48), heads=2), atol=1e-5, rtol=1e-5)
    assert (loaded.source.dialect, loaded.num_classes) == ("timm", 21843)


def test_without_that_layer_it_is_timm(tmp_path: Path, randomise: Randomise) -> None:
    weights = tutorial_weights(randomise, classes=5)
    del weights["pre_logits.fc.weight"], weights["pre_logits.fc.bias"]
    torch.save(weights, tmp_path / "vit-model-9.pth")
    assert load_checkpoint(tmp_path / "vit-model-9.pth").source.dialect == "timm"
