"""Tensor names and shapes, in timm's words, tell how the model was built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vitrify.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
Sizes = tuple[tuple[int, int], ...]


_RANKS = {
    "patch_embed.proj.weight": 4,
    "pos_embed": 3,
    "reg_token": 3,
    "blocks.0.attn.qkv.weight": 2,
    "blocks.0.mlp.fc1.weight": 2,
    "blocks.0.mlp.fc2.weight": 2,
    "pre_logits.fc.weight": 2,
    "head.weight": 2,
}
"""Axes of the tensors whose shapes are read."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What shapes show of a Vision Transformer.

    Attributes:
        patch_size: Height and width in pixels.
        embed_dim: Width of a token.
        depth: Blocks.
        tokens: Rows of the position embedding that belong to patches; None without a position embedding.
        mlp_width: Rows of the first MLP layer.
        gated_mlp: The second MLP layer reads half of what the first gives: SwiGLU.
        num_classes: 0 without a head.
        token_avg: The head reads two vectors of `embed_dim` each.
        distilled: A distillation token and a head of its own.
        representation_size: Outputs of the tanh layer before the head; 0 without.
        others: Keyword arguments of timm's VisionTransformer that presence alone decides.
    """

    patch_size: tuple[int, int]
    embed_dim: int
    depth: int
    tokens: int | None
    mlp_width: int
    gated_mlp: bool
    num_classes: int
    token_avg: bool
    distilled: bool
    representation_size: int
    others: dict[str, bool | int | str]


def sniff(shapes: Shapes, img_sizes: Sizes = ()) -> Anatomy:
    """Reads the anatomy from shapes under timm's tensor names.

    Args:
        shapes: Tensor name to shape.
        img_sizes: Height and width in pixels, where some are known: a position grid that is not square needs them.

    Raises:
        CheckpointError: The names or shapes are those of another network.
    """
    if wrong := {name: shapes[name] for name, rank in _RANKS.items() if name in shapes and len(shapes[name]) != rank}:
        raise _another_network(wrong)
    patch = shapes.get("patch_embed.proj.weight")
    depth = len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})
    fc1, fc2 = shapes.get("blocks.0.mlp.fc1.weight"), shapes.get("blocks.0.mlp.fc2.weight")
    qkv = shapes.get("blocks.0.attn.qkv.weight")
    if patch is None or fc1 is None or fc2 is None or qkv is None or qkv[0] != 3 * patch[0]:
        raise _another_network(shapes)
    if patch[1] != 3:
        raise CheckpointError(
            "the model reads no RGB images", got=f"{patch[1]} input channels", expected="3", hint="use an RGB model"
        )
    width = patch[0]
    class_token, distilled = "cls_token" in shapes, "dist_token" in shapes
    registers = shapes["reg_token"][1] if "reg_token" in shapes else 0
    head = shapes.get("head.weight")
    tokens, no_embed_class = _patch_tokens(
        shapes, int(class_token) + int(distilled) + registers, (patch[2], patch[3]), img_sizes
    )
    token_avg = head is not None and head[1] == 2 * width
    if "attn_pool.latent" in shapes:
        pool = "map"
    elif token_avg:
        pool = "token_avg"
    else:
        pool = "token" if class_token and "fc_norm.weight" not in shapes else "avg"
    return Anatomy(
        patch_size=(patch[2], patch[3]),
        embed_dim=width,
        depth=depth,
        tokens=tokens,
        mlp_width=fc1[0],
        gated_mlp=fc1[0] == 2 * fc2[1],
        num_classes=head[0] if head is not None else 0,
        token_avg=token_avg,
        distilled=distilled,
        representation_size=shapes["pre_logits.fc.weight"][0] if "pre_logits.fc.weight" in shapes else 0,
        others={
            "class_token": class_token,
            "reg_tokens": registers,
            "no_embed_class": no_embed_class,
            "pos_embed": "none" if tokens is None else "learn",
            "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
            "proj_bias": "blocks.0.attn.proj.bias" in shapes,
            "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
            "scale_attn_norm": "blocks.0.attn.norm.weight" in shapes,
            "scale_mlp_norm": "blocks.0.mlp.norm.weight" in shapes,
            "init_values": "blocks.0.ls1.gamma" in shapes,
            "pre_norm": "norm_pre.weight" in shapes,
            "final_norm": "norm.weight" in shapes or "fc_norm.weight" in shapes,
            "fc_norm": "fc_norm.weight" in shapes,
            "global_pool": pool,
        },
    )


def grid_of(tokens: int, patch_size: tuple[int, int], img_sizes: Sizes = ()) -> tuple[int, int] | None:
    """The grid of `tokens` patches: the first that an image size makes if one fits, else the square, else None."""
    for height, width in img_sizes:
        grid = height // patch_size[0], width // patch_size[1]
        if grid[0] * grid[1] == tokens:
            return grid
    side = math.isqrt(tokens)
    return (side, side) if side * side == tokens else None


def _patch_tokens(
    shapes: Shapes, prefix_tokens: int, patch: tuple[int, int], img_sizes: Sizes
) -> tuple[int | None, bool]:
    """How many positions are patches, and whether class and register tokens have none."""
    position = shapes.get("pos_embed")
    if position is None:
        return None, False
    length = position[1]
    if length <= prefix_tokens:
        raise _another_network({"pos_embed": position})
    for tokens in (length - prefix_tokens, length):
        if grid_of(tokens, patch, img_sizes) is not None:
            return tokens, tokens == length and prefix_tokens > 0
    return length - prefix_tokens, False


def _another_network(shapes: Shapes) -> CheckpointError:
    names = [f"{name} {list(shape)}" for name, shape in list(shapes.items())[:4]]
    return CheckpointError(
        "there is no Vision Transformer in this file",
        got=f"found {', '.join(names)}{', ...' if len(shapes) > 4 else ''}" if names else "no tensors",
        expected="patch_embed.proj, blocks.0.attn.qkv, blocks.0.mlp.fc1 (timm) or the names of Hugging Face or JAX",
        hint="vitrify reads Vision Transformers of timm, transformers (ViT, DeiT, DINOv2) and Google's JAX",
    )
