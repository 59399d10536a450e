"""The choice alone, on shapes: timm's published architectures, built without memory."""

from __future__ import annotations

from typing import Any

import pytest

from vitrify.checkpoints import Overrides
from vitrify.checkpoints.building import build_without_memory
from vitrify.checkpoints.choosing import choose
from vitrify.checkpoints.hints import Hints
from vitrify.checkpoints.sniffing import grid_of, sniff
from vitrify.spec import KwargValue

Shapes = dict[str, tuple[int, ...]]


def shapes_of(model: Any) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def invisible(model: Any) -> tuple[object, ...]:
    block = model.blocks[0]
    return (
        block.attn.num_heads,
        type(block.mlp.act),
        block.norm1.eps,
        model.global_pool,
        type(model.fc_norm),
        model.patch_embed.img_size,
    )


@pytest.mark.parametrize(
    ("architecture", "found", "kwargs"),
    [
        ("vit_small_patch16_224", None, {}),
        ("vit_base_patch32_384", None, {}),
        ("vit_large_patch16_224", None, {}),
        ("vit_huge_patch14_224", None, {}),
        ("vit_giant_patch14_224", None, {}),
        ("deit_base_distilled_patch16_384", None, {}),
        ("deit3_small_patch16_224", None, {}),
        ("vit_base_patch14_dinov2", None, {}),
        ("vit_giant_patch14_dinov2", None, {}),
        ("vit_small_patch14_reg4_dinov2", None, {}),
        ("vit_medium_patch16_gap_240", None, {}),
        ("vit_huge_patch14_gap_224", None, {}),
        ("vit_base_patch16_siglip_224", None, {}),
        ("vit_base_patch16_siglip_gap_512", None, {}),
        ("vit_giantopt_patch16_siglip_384", None, {}),
        ("beit3_large_patch16_224", None, {}),
        ("deit_tiny_patch16_224", "vit_tiny_patch16_224", {}),
        ("vit_base_patch16_224_miil", "vit_base_patch16_224", {"qkv_bias": False}),
        ("flexivit_base", "vit_base_patch16_224", {"no_embed_class": True, "img_size": 240}),
        ("vit_base_patch16_plus_240", "vit_base_patch16_224", None),
        ("vit_mediumd_patch16_reg4_gap_256", "vit_base_patch16_224", None),
        ("vit_so150m_patch16_reg4_gap_256", None, None),
        ("vit_intern300m_patch14_448", "vit_large_patch14_dinov2", {"final_norm": False, "img_size": 448}),
    ],
)
def test_published_architectures(architecture: str, found: str | None, kwargs: dict[str, KwargValue] | None) -> None:
    model = build_without_memory(architecture, 1000, {})
    choice = choose(sniff(shapes_of(model)), Hints(), Overrides())
    if kwargs is not None:
        assert (choice.architecture, choice.model_kwargs) == (found or architecture, kwargs)
        assert choice.notes == []
    rebuilt = build_without_memory(choice.architecture, 1000, choice.model_kwargs)
    assert shapes_of(rebuilt) == shapes_of(model)
    assert invisible(rebuilt) == invisible(model)


def test_grid_is_square_unless_a_size_says_otherwise() -> None:
    assert grid_of(196, (16, 16)) == (14, 14)
    assert grid_of(12, (16, 16)) is None
    assert grid_of(12, (16, 16), ((48, 64),)) == (3, 4)
    assert grid_of(16, (8, 8), ((16, 64),)) == (2, 8)
    assert grid_of(16, (8, 8), ((96, 96),)) == (4, 4)
