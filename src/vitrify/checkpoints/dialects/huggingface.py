"""Hugging Face transformers' names: ViT, DeiT, DINOv2 with and without registers, before and since version 5."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast, get_args

import torch

from vitrify.checkpoints.hints import Hints
from vitrify.checkpoints.model import Activation
from vitrify.errors import CheckpointError

_MODELS = ("vit.", "deit.", "dinov2.", "dinov2_with_registers.")
_TYPES = tuple(name.removesuffix(".") for name in _MODELS)

_RENAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.distillation_token$", "dist_token"),
        (r"^embeddings\.register_tokens$", "register_tokens"),
        (r"^layernorm\.", "norm."),
        (r"^(?:classifier|cls_classifier)\.", "head."),
        (r"^distillation_classifier\.", "head_dist."),
        (r"^(?:encoder\.)?layers?\.(\d+)\.", r"blocks.\1."),
        (r"(?<=\d)\.(?:layernorm_before|norm1)\.", ".norm1."),
        (r"(?<=\d)\.(?:layernorm_after|norm2)\.", ".norm2."),
        (r"(?<=\d)\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
        (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
        (r"\.attention\.([qkv])_proj\.", r".attn.\1."),
        (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"(?<=\d)\.output\.dense\.", ".mlp.fc2."),
        (r"\.mlp\.weights_in\.", ".mlp.fc1."),
        (r"\.mlp\.(?:weights_out|down_proj)\.", ".mlp.fc2."),
    )
]

_FUSED = {
    "attn.qkv": (("attn.query", "attn.key", "attn.value"), ("attn.q", "attn.k", "attn.v")),
    "mlp.fc1": (("mlp.gate_proj", "mlp.up_proj"),),
}
"""timm's one matrix to the several that transformers keeps, in timm's order."""

_ACTIVATIONS: dict[str, Activation] = {
    **{name: cast("Activation", name) for name in get_args(Activation)},
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python": "gelu",
    "swish": "silu",
}


def matches(names: Iterable[str]) -> bool:
    """Whether these are the names of a transformers model of this family."""
    return any(name.endswith("embeddings.patch_embeddings.projection.weight") for name in names)


def to_timm(
    tensors: dict[str, torch.Tensor], config: dict[str, Any], hints: Hints, notes: list[str]
) -> dict[str, torch.Tensor]:
    """Converts to timm's names; `tensors` is emptied on the way.

    Args:
        tensors: Names as `save_pretrained` writes them, with or without the model's prefix.
        config: `config.json`; empty where the file stands alone.
        hints: Gets what the configuration says, or transformers' defaults.
        notes: Gets what was left out.

    Raises:
        CheckpointError: A model type or an activation that timm's model cannot express.
    """
    model_type = str(config.get("model_type") or _type_of(tensors))
    renamed: dict[str, torch.Tensor] = {}
    left_out: dict[str, str] = {}
    for name in list(tensors):
        tensor = tensors.pop(name)
        bare = name.removeprefix(next((prefix for prefix in _MODELS if name.startswith(prefix)), ""))
        if bare == "embeddings.mask_token" or bare.startswith("decoder."):
            left_out["the mask token and the decoder, which only pretraining uses"] = bare
        elif bare.startswith("pooler."):
            left_out["the pooler, a tanh layer that no classifier reads"] = bare
        else:
            renamed[_rename(bare)] = tensor
    notes += [f"left out {what}" for what, bare in left_out.items() if bare != "embeddings.mask_token"]
    _fuse(renamed)
    gated = any(name.endswith("mlp.fc1.weight") and _is_gated(renamed, name) for name in renamed)
    _read_config(config, model_type, gated, hints, notes)
    _place_tokens(renamed)
    return renamed


def _type_of(tensors: dict[str, torch.Tensor]) -> str:
    names = "\n".join(tensors)
    if "distillation_token" in names:
        return "deit"
    if "register_tokens" in names:
        return "dinov2_with_registers"
    return "dinov2" if "layer_scale1" in names else "vit"


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def _fuse(tensors: dict[str, torch.Tensor]) -> None:
    blocks = {".".join(name.split(".")[:2]) for name in tensors if name.startswith("blocks.")}
    for block in blocks:
        for fused, choices in _FUSED.items():
            for parts in choices:
                for kind in ("weight", "bias"):
                    names = [f"{block}.{part}.{kind}" for part in parts]
                    if all(name in tensors for name in names):
                        tensors[f"{block}.{fused}.{kind}"] = torch.cat([tensors.pop(name) for name in names])


def _is_gated(tensors: dict[str, torch.Tensor], fc1: str) -> bool:
    fc2 = tensors.get(fc1.replace("fc1", "fc2"))
    return fc2 is not None and tensors[fc1].shape[0] == 2 * fc2.shape[1]


def _place_tokens(tensors: dict[str, torch.Tensor]) -> None:
    if "register_tokens" in tensors and {"cls_token", "pos_embed"} <= tensors.keys():
        # DINOv2 adds a position to the class token and none to the registers; timm adds it to the token beforehand.
        tensors["reg_token"] = tensors.pop("register_tokens")
        tensors["cls_token"] = tensors["cls_token"] + tensors["pos_embed"][:, :1]
        tensors["pos_embed"] = tensors["pos_embed"][:, 1:]
    elif "dist_token" in tensors and "head_dist.weight" not in tensors:
        # A DeiT whose head reads the class token alone: its distillation token is then one more token, a register.
        tensors["reg_token"] = tensors.pop("dist_token")


def _read_config(config: dict[str, Any], model_type: str, gated: bool, hints: Hints, notes: list[str]) -> None:
    if model_type not in _TYPES:
        raise CheckpointError(
            "this Hugging Face model is of a type that is not read",
            got=f"model_type {model_type}",
            expected=", ".join(_TYPES),
        )
    default_eps = 1e-6 if model_type.startswith("dinov2") else 1e-12
    hints.norm_eps = float(config.get("layer_norm_eps", default_eps))
    if not config:
        notes.append(
            f"no config.json beside the weights: took transformers' norm epsilon {default_eps}; --norm-eps decides"
        )
        return
    heads, size = config.get("num_attention_heads"), config.get("image_size")
    sides: list[Any] = size if isinstance(size, list) and len(size) == 2 else [size, size]
    for name, value in (("num_attention_heads", heads), ("image_size", sides[0]), ("image_size", sides[1])):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise CheckpointError(
                "config.json has a value that it cannot have", got=f"{name} {value!r:.80}", expected="a whole number"
            )
    hints.num_heads = heads
    if size is not None:
        hints.img_size = (sides[0], sides[1])
    activation = str(config.get("hidden_act", "gelu"))
    if gated:
        return  # SwiGLU brings its own
    if activation not in _ACTIVATIONS:
        raise CheckpointError(
            "this Hugging Face model has an activation that is not known",
            got=f"hidden_act {activation}",
            expected=", ".join(_ACTIVATIONS),
            hint="--activation decides",
        )
    hints.activation = _ACTIVATIONS[activation]
