"""The training loop, around timm's optimiser, schedule, losses and augmentations.

`TrainConfig` needs no PyTorch; everything else here does, and says which extra to install where it is missing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vitrify.errors import MissingExtraError
from vitrify.training.config import TrainConfig

if TYPE_CHECKING:
    from vitrify.training.data import ImageCache, make_loaders
    from vitrify.training.loop import fit
    from vitrify.training.metrics import EpochRow, Scores
    from vitrify.training.run_folder import RunFolder
    from vitrify.training.start import Start, make_start
    from vitrify.training.state import RunState

_HOMES = {
    "EpochRow": "vitrify.training.metrics",
    "ImageCache": "vitrify.training.data",
    "RunFolder": "vitrify.training.run_folder",
    "RunState": "vitrify.training.state",
    "Scores": "vitrify.training.metrics",
    "Start": "vitrify.training.start",
    "fit": "vitrify.training.loop",
    "make_loaders": "vitrify.training.data",
    "make_start": "vitrify.training.start",
}

__all__ = [
    "EpochRow",
    "ImageCache",
    "RunFolder",
    "RunState",
    "Scores",
    "Start",
    "TrainConfig",
    "fit",
    "make_loaders",
    "make_start",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'vitrify.training' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "vitrify":
            raise
        raise MissingExtraError("training needs PyTorch and timm", extra="train", package=package) from error
