"""One file a dialect: `matches(names)`, and `to_timm(tensors)` under timm's names."""

from __future__ import annotations

from typing import Any

import torch

from vitrify.checkpoints.dialects import huggingface, jax, timm
from vitrify.checkpoints.hints import Hints
from vitrify.errors import CheckpointError


def translate(
    tensors: dict[str, torch.Tensor], config: dict[str, Any], hints: Hints, notes: list[str]
) -> tuple[str, dict[str, torch.Tensor]]:
    """Recognises the dialect by tensor names and gives the tensors timm's names.

    Args:
        tensors: Unwrapped; emptied where its tensors are converted.
        config: `config.json` beside the weights, empty where there is none.
        hints: Gets what the dialect implies and the folder does not say.
        notes: Gets what was left out.

    Raises:
        CheckpointError: Tensors that cannot be converted.

    Returns:
        The dialect's name and the tensors. Names that no dialect knows come back as they are, for `sniff` to refuse.
    """
    dialect = _dialect_of(tensors)
    try:
        if dialect == "jax":
            return dialect, jax.to_timm(tensors, hints)
        if dialect == "huggingface":
            return dialect, huggingface.to_timm(tensors, config, hints, notes)
        return dialect, timm.to_timm(tensors, notes)
    except (RuntimeError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        # Missing or misshapen tensors stop a conversion before the strict check can name them.
        raise CheckpointError(
            f"the names are those of a {dialect} Vision Transformer, but its tensors do not go together",
            got=f"{type(error).__name__}: {error}",
            hint="the file may be incomplete: save it again with the program that wrote it",
        ) from error


def _dialect_of(tensors: dict[str, torch.Tensor]) -> str:
    if jax.matches(tensors):
        return "jax"
    return "huggingface" if huggingface.matches(tensors) else timm.name_of(tensors)
