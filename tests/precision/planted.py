"""Faults planted into a trained model that change nothing in fp32, and break naive fp16 or int8.

Each moves a power of two from one place to another where the two cancel exactly, as the outliers of large real ViTs do:
in the residual stream, in queries, in channels behind a norm. The last one makes a hidden channel fire always.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


@torch.no_grad()
def residual(model: nn.Module, factor: float = 2.0**18) -> nn.Module:
    """A residual stream `factor` times as large: every norm undoes it. fp16 ends at 65504."""
    planted: Any = copy.deepcopy(model)
    tensors = [planted.cls_token, planted.pos_embed, planted.patch_embed.proj.weight, planted.patch_embed.proj.bias]
    for block in planted.blocks:
        tensors += [block.attn.proj.weight, block.attn.proj.bias, block.mlp.fc2.weight, block.mlp.fc2.bias]
    for tensor in tensors:
        tensor.mul_(factor)
    return planted  # type: ignore[no-any-return]


@torch.no_grad()
def queries(model: nn.Module, factor: float = 2.0**17) -> nn.Module:
    """Queries `factor` times as large and keys as much smaller, in block 1: their product stays."""
    planted: Any = copy.deepcopy(model)
    qkv = planted.blocks[1].attn.qkv
    width = qkv.weight.shape[1]
    for tensor in (qkv.weight, qkv.bias):
        tensor[:width].mul_(factor)
        tensor[width : 2 * width].div_(factor)
    return planted  # type: ignore[no-any-return]


@torch.no_grad()
def channels(
    model: nn.Module,
    factor: float = 2.0**9,
    blocks: tuple[int, ...] | None = None,
    norms: tuple[str, ...] = ("norm1", "norm2"),
) -> nn.Module:
    """Three channels behind `norms` of `blocks` `factor` times as large, and the weights that read them smaller."""
    planted: Any = copy.deepcopy(model)
    for number, block in enumerate(planted.blocks):
        if blocks is not None and number not in blocks:
            continue
        for name, linear in (("norm1", block.attn.qkv), ("norm2", block.mlp.fc1)):
            norm = getattr(block, name)
            for channel in (3, 17, 40) if name in norms else ():
                norm.weight[channel] *= factor
                norm.bias[channel] *= factor
                linear.weight[:, channel] /= factor
    return planted  # type: ignore[no-any-return]


@torch.no_grad()
def massive(model: nn.Module, value: float = 2.0**11) -> nn.Module:
    """In every MLP, the hidden channel that matters least gives `value` for every token; a bias takes it out again."""
    planted: Any = copy.deepcopy(model)
    for block in planted.blocks:
        channel = int((block.mlp.fc1.weight.norm(dim=1) * block.mlp.fc2.weight.norm(dim=0)).argmin())
        block.mlp.fc1.weight[channel] = 0
        block.mlp.fc1.bias[channel] = value
        row = block.mlp.fc2.weight[:, channel].sign() * 2.0**-8
        block.mlp.fc2.weight[:, channel] = row
        block.mlp.fc2.bias -= value * row
    return planted  # type: ignore[no-any-return]
