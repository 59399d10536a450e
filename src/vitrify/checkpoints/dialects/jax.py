"""Google's JAX names: the `.npz` archives of Vision Transformer, AugReg and big_vision."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from vitrify.checkpoints.hints import Hints
from vitrify.errors import CheckpointError

_PREFIXES = ("", "opt/target/", "params/", "params/img/")


def matches(names: Iterable[str]) -> bool:
    """Whether these are JAX's names."""
    known = set(names)
    return any(f"{prefix}embedding/kernel" in known for prefix in _PREFIXES)


def to_timm(tensors: dict[str, torch.Tensor], hints: Hints) -> dict[str, torch.Tensor]:
    """Converts to timm's names and layouts: `Dense` kernels are `[in, out]`, convolutions `[H, W, in, out]`.

    Raises:
        CheckpointError: A model that does not start with a patch embedding.
    """
    prefix = next(p for p in _PREFIXES if f"{p}embedding/kernel" in tensors)
    weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    tensors.clear()
    return _convert(weights, hints)


def _convert(weights: dict[str, torch.Tensor], hints: Hints) -> dict[str, torch.Tensor]:
    """Names, then blocks.

    timm has a loader of its own, which fills a model that is built already and passes over a head or a representation
    layer that does not fit it. Here the names come first, so that the model is built to fit, and strictly.
    """
    kernel = weights.pop("embedding/kernel")
    if kernel.ndim != 4 or "conv_root/kernel" in weights:
        raise CheckpointError(
            "this JAX model does not start with a patch embedding",
            got=f"embedding/kernel {list(kernel.shape)}" + (", a ResNet stem" * ("conv_root/kernel" in weights)),
            expected="[patch height, patch width, 3, width]",
        )
    converted = {"patch_embed.proj.weight": kernel.permute(3, 2, 0, 1)}
    renames = {
        "embedding/bias": "patch_embed.proj.bias",
        "cls": "cls_token",
        "pos_embedding": "pos_embed",
        "Transformer/posembed_input/pos_embedding": "pos_embed",
        "Transformer/encoder_norm/scale": "norm.weight",
        "Transformer/encoder_norm/bias": "norm.bias",
        "head/bias": "head.bias",
        "pre_logits/bias": "pre_logits.fc.bias",
    }
    converted |= {new: weights.pop(old) for old, new in renames.items() if old in weights}
    for layer, new in (("head", "head.weight"), ("pre_logits", "pre_logits.fc.weight")):
        if f"{layer}/kernel" in weights:
            converted[new] = weights.pop(f"{layer}/kernel").transpose(-2, -1)
    heads = set()
    for index, block in enumerate(_blocks(weights)):
        names = {name.split("/", 1)[0] for name in block}
        # First LayerNorm_0, MultiHeadDotProductAttention_1, LayerNorm_2, MlpBlock_3; big_vision counts by kind.
        attention = min(name for name in names if name.startswith("MultiHeadDotProductAttention"))
        norm1, norm2 = sorted(name for name in names if name.startswith("LayerNorm"))
        mlp = min(name for name in names if name.startswith("MlpBlock"))
        heads.add(block[f"{attention}/query/kernel"].shape[1])
        parts = [f"{attention}/{part}" for part in ("query", "key", "value")]
        new_block = {
            # [width, heads, head width] -> [heads * head width, width]
            "attn.qkv.weight": torch.cat([block.pop(f"{part}/kernel").flatten(1).transpose(-2, -1) for part in parts]),
            "attn.qkv.bias": torch.cat([block.pop(f"{part}/bias").flatten() for part in parts]),
            "attn.proj.weight": block.pop(f"{attention}/out/kernel").flatten(0, 1).transpose(-2, -1),
            "attn.proj.bias": block.pop(f"{attention}/out/bias"),
        }
        for norm, new in ((norm1, "norm1"), (norm2, "norm2")):
            new_block[f"{new}.weight"], new_block[f"{new}.bias"] = block.pop(f"{norm}/scale"), block.pop(f"{norm}/bias")
        for number in (0, 1):
            new_block[f"mlp.fc{number + 1}.weight"] = block.pop(f"{mlp}/Dense_{number}/kernel").transpose(-2, -1)
            new_block[f"mlp.fc{number + 1}.bias"] = block.pop(f"{mlp}/Dense_{number}/bias")
        converted |= {f"blocks.{index}.{name}": value for name, value in (new_block | block).items()}
    hints.num_heads = heads.pop() if len(heads) == 1 else None
    return converted | weights  # what is left over is for the strict check to name


def _blocks(weights: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Takes the blocks out of `weights`: numbered, or stacked in one array with a leading depth axis (scan)."""
    stem = "Transformer/encoderblock"
    numbered: dict[int, dict[str, torch.Tensor]] = {}
    for name in [name for name in weights if name.startswith(stem)]:
        number, rest = name.removeprefix(stem).split("/", 1)
        value = weights.pop(name)
        if number:
            numbered.setdefault(int(number.removeprefix("_")), {})[rest] = value
        else:
            for index, part in enumerate(value):
                numbered.setdefault(index, {})[rest] = part
    return [numbered[index] for index in sorted(numbered)]
