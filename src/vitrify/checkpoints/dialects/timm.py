"""timm's own names and those of its kin: its past versions, Facebook's DeiT and DINOv2, the classifier tutorial."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

_RENAMES = (
    (re.compile(r"^(blocks\.\d+)\.gamma_([12])$"), r"\1.ls\2.gamma"),  # DeiT III
    (re.compile(r"^(blocks\.\d+)\.mlp\.w12\."), r"\1.mlp.fc1."),  # DINOv2's SwiGLU: gate and value in one matrix
    (re.compile(r"^(blocks\.\d+)\.mlp\.w3\."), r"\1.mlp.fc2."),
)

_IMAGENET_21K_CLASSES = 21843


def matches(names: Iterable[str]) -> bool:
    """Whether these are timm's names."""
    return "patch_embed.proj.weight" in set(names)


def name_of(tensors: dict[str, torch.Tensor]) -> str:
    """`tutorial` or `timm`.

    The tutorial's model is a copy of a past timm, so that only one thing tells: a representation layer in front of
    classes of one's own. timm shipped that layer with ImageNet-21k's classes alone.
    """
    head = tensors.get("head.weight")
    own_classes = head is not None and head.shape[:1] != (_IMAGENET_21K_CLASSES,)
    return "tutorial" if "pre_logits.fc.weight" in tensors and own_classes else "timm"


def to_timm(tensors: dict[str, torch.Tensor], notes: list[str]) -> dict[str, torch.Tensor]:
    """Brings names that have changed over time to today's."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)  # noqa: PLW2901
        renamed[name] = tensor
    if renamed.pop("mask_token", None) is not None:
        notes.append("left out mask_token, which only pretraining uses")
    if "register_tokens" in renamed and {"cls_token", "pos_embed"} <= renamed.keys():
        # DINOv2 adds a position to the class token and none to the registers; timm adds it to the token beforehand.
        renamed["reg_token"] = renamed.pop("register_tokens")
        renamed["cls_token"] = renamed["cls_token"] + renamed["pos_embed"][:, :1]
        renamed["pos_embed"] = renamed["pos_embed"][:, 1:]
    return renamed
