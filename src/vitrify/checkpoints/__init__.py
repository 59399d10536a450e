"""Weights in any dialect become a timm model: `load_checkpoint`, `save_checkpoint`, `build_model`, `replace_head`."""

from vitrify.errors import MissingExtraError

try:
    import safetensors  # noqa: F401
    import timm  # noqa: F401
    import torch  # noqa: F401
except ModuleNotFoundError as _error:
    raise MissingExtraError(
        "reading checkpoints needs PyTorch, timm and safetensors", extra="train", package=_error.name
    ) from _error

from vitrify.checkpoints.building import build_model
from vitrify.checkpoints.heads import replace_head
from vitrify.checkpoints.loading import load_checkpoint
from vitrify.checkpoints.model import Checkpoint, Overrides
from vitrify.checkpoints.saving import save_checkpoint
from vitrify.checkpoints.specification import spec_from_checkpoint

__all__ = [
    "Checkpoint",
    "Overrides",
    "build_model",
    "load_checkpoint",
    "replace_head",
    "save_checkpoint",
    "spec_from_checkpoint",
]
