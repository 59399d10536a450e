"""Training frameworks wrap a state_dict in dicts and prefixes; this finds it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from vitrify.errors import CheckpointError

_EMA = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "teacher")
_RAW = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "params", "student")
_EMA_PREFIXES = ("model_ema.", "ema_model.", "ema.")
_HEAD = ("head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias", "classifier.weight", "classifier.bias")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.", "student.", "teacher.")
_MARKS = (
    "patch_embed.",
    "cls_token",
    "pos_embed",
    *(f"{prefix}embeddings." for prefix in ("", "vit.", "deit.", "dinov2.", "dinov2_with_registers.")),
)
"""Starts of names in an unwrapped state_dict: timm's, and Hugging Face's."""


@dataclass(kw_only=True)
class Unwrapped:
    """A flat dict of tensors, and what stood around it.

    Attributes:
        tensors: Name to tensor.
        architecture: timm's name, where the training script stored one.
        notes: What was chosen.
    """

    tensors: dict[str, torch.Tensor]
    architecture: str | None = None
    notes: list[str] = field(default_factory=list)


def unwrap(content: Any, *, raw_weights: bool, path: object) -> Unwrapped:
    """Finds the state_dict inside what a file holds.

    Args:
        content: What `read_weights` gave.
        raw_weights: Take raw weights where there is also an exponential moving average (EMA).
        path: For messages.

    Raises:
        CheckpointError: There is none.
    """
    notes: list[str] = []
    architecture = _architecture(content)
    while isinstance(content, Mapping) and not _has_tensors(content):
        inner = {key: content[key] for key in (*_EMA, *_RAW) if _holds_weights(content.get(key))}
        if not inner:
            break
        ema = [key for key in inner if key in _EMA]
        raw = [key for key in inner if key in _RAW]
        chosen = raw[0] if raw and (raw_weights or not ema) else ema[0]
        if ema and raw:
            other = ema[0] if chosen in raw else raw[0]
            kind = "raw weights" if chosen in raw else "exponential moving average"
            notes.append(f"took the {kind} ({chosen!r}), not {other!r}; --raw-weights decides")
        content = inner[chosen]
        architecture = architecture or _architecture(content)
    if not isinstance(content, Mapping) or not _has_tensors(content):
        raise CheckpointError(
            f"{path} holds no state_dict",
            got=_describe(content),
            expected="tensors by name, plain or under one of " + ", ".join((*_RAW[:3], *_EMA[:3])),
        )
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    tensors = _choose_prefix(tensors, raw_weights, notes)
    return Unwrapped(tensors=_strip(tensors, notes), architecture=architecture, notes=notes)


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    # A wrapper may itself hold a stray tensor (a step, a loss): a state_dict holds almost nothing else.
    return sum(isinstance(value, torch.Tensor) and value.ndim > 0 for value in content.values()) * 2 > len(content)


def _holds_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and (
        _has_tensors(value) or any(_holds_weights(value.get(key)) for key in (*_EMA, *_RAW))
    )


def _choose_prefix(tensors: dict[str, torch.Tensor], raw_weights: bool, notes: list[str]) -> dict[str, torch.Tensor]:
    """Separates raw weights from their moving average where one state_dict holds both, as Lightning modules do."""
    for prefix in _EMA_PREFIXES:
        averaged = {name: value for name, value in tensors.items() if name.startswith(prefix)}
        others = {name: value for name, value in tensors.items() if name not in averaged}
        if any(mark in name for name in averaged for mark in _MARKS):
            if not any(mark in name for name in others for mark in _MARKS):
                return {name.removeprefix(prefix): value for name, value in averaged.items()}
            kind = "raw weights" if raw_weights else "exponential moving average"
            notes.append(f"took the {kind} of a file that holds both ({prefix}*); --raw-weights decides")
            return others if raw_weights else {name.removeprefix(prefix): value for name, value in averaged.items()}
    return tensors


def _strip(tensors: dict[str, torch.Tensor], notes: list[str]) -> dict[str, torch.Tensor]:
    """Takes off prefixes until names are those of a model, leaving out what stands beside a prefixed backbone."""
    while not any(name.startswith(_MARKS) for name in tensors):
        counts = {p: sum(name.startswith(p) for name in tensors) for p in _PREFIXES}
        prefix = max(counts, key=lambda p: counts[p])
        if 2 * counts[prefix] < len(tensors):
            break
        beside = [name for name in tensors if not name.startswith(prefix)]
        # A head may stand beside its backbone; everything else (a loss's buffers, metrics) is no part of the model.
        kept = {name for name in beside if name in _HEAD}
        if left := [name for name in beside if name not in kept]:
            notes.append(f"left out {len(left)} tensors outside the model, such as {left[0]}")
        tensors = {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix) or name in kept
        }
    return tensors


def _architecture(content: Any) -> str | None:
    if not isinstance(content, Mapping):
        return None
    places: list[Any] = [content]
    places += [
        vars(p) if isinstance(p, argparse.Namespace) else p for p in map(content.get, ("args", "hyper_parameters"))
    ]
    for place in places:
        for key in ("arch", "architecture", "model", "model_name"):
            if isinstance(place, Mapping) and isinstance(name := place.get(key), str):
                return name
    return None


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        keys = [str(key) for key in content]
        return f"a dict of {', '.join(keys[:8])}{', ...' if len(keys) > 8 else ''}" if keys else "an empty dict"
    if isinstance(content, torch.Tensor):
        return f"one tensor of shape {list(content.shape)}"
    return f"a {type(content).__name__}"
