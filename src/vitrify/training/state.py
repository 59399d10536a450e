"""The state of a run after an epoch: enough to go on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrify.datasets import ImageFolder
from vitrify.errors import CheckpointError, OptionError
from vitrify.files import atomic_path
from vitrify.spec.codec import encode
from vitrify.training.config import TrainConfig
from vitrify.training.metrics import Confusion, EpochRow

STATE_VERSION = 1

MAY_CHANGE = ("device", "workers", "cache_mb", "patience", "resume", "overwrite", "skip_bad")
"""Options that a run may go on with differently; every other one would make it another run."""


@dataclass(kw_only=True)
class RunState:
    """What an epoch leaves behind.

    Attributes:
        updates: Updates of the weights so far.
        history: One row an epoch.
        best: The row whose weights are in best.safetensors.
        best_confusion: Confusion matrix of that epoch.
        tensors: State dictionaries of the model, the optimiser, the moving average and the loss scaler.
        notes: Decisions that were taken for the user when the run began.
    """

    updates: int = 0
    history: list[EpochRow] = field(default_factory=list)
    best: EpochRow | None = None
    best_confusion: Confusion | None = None
    tensors: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def become(self, other: RunState) -> None:
        """Takes over everything of `other`, once it is on the disk."""
        for each in dataclasses.fields(self):
            setattr(self, each.name, getattr(other, each.name))

    def is_over(self, config: TrainConfig) -> bool:
        """Whether all epochs are done, or the patience is used up."""
        waited = self.epoch - self.best.epoch if self.best else 0
        return self.epoch >= config.epochs or (config.patience > 0 and waited >= config.patience)


def fingerprint(train: ImageFolder, val: ImageFolder) -> str:
    """64 hexadecimal digits that tell whether a run goes on with the same labels and the same images on each side.

    Paths count relative to the folder, so that it may have moved; the bytes of the images do not count.
    """
    digest = hashlib.sha256(json.dumps(train.labels).encode())
    for folder in (train, val):
        names = [(path.relative_to(folder.root).as_posix(), target) for path, target in folder.samples]
        digest.update(json.dumps(names).encode())
    return digest.hexdigest()


def save_state(path: Path, state: RunState, config: TrainConfig, images: str) -> None:
    """Writes the state, whole or not at all.

    Raises:
        StorageError: It cannot be written; the previous one is still there.
    """
    content = {
        "version": STATE_VERSION,
        "config": _plain(config),
        "images": images,
        "updates": state.updates,
        "history": [dataclasses.asdict(row) for row in state.history],
        "best": dataclasses.asdict(state.best) if state.best else None,
        "best_confusion": None if state.best_confusion is None else torch.from_numpy(state.best_confusion),
        "notes": list(state.notes),
        **state.tensors,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_state(path: Path, config: TrainConfig, images: str) -> RunState:
    """Reads the state of a run that is to go on.

    Args:
        path: state.pt.
        config: The options now, resolved; they must be those of the run, `MAY_CHANGE` excepted.
        images: `fingerprint` of the images now.

    Raises:
        CheckpointError: No readable state.
        OptionError: The options or the images differ from the run's; says which.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: content[name] for name in ("model", "optimizer", "ema", "scaler")}
        version, before = content["version"], content["config"]
        state = RunState(
            updates=content["updates"],
            history=[EpochRow(**row) for row in content["history"]],
            best=EpochRow(**content["best"]) if content["best"] else None,
            best_confusion=None if content["best_confusion"] is None else content["best_confusion"].numpy(),
            tensors=tensors,
            notes=tuple(content["notes"]),
        )
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is no state of a run, or it is damaged",
            got=str(error).partition("\n")[0],
            hint="start again with --overwrite",
        ) from error
    if version != STATE_VERSION:
        raise CheckpointError(
            f"{path} was written by another vitrify", got=f"version {version}", expected=STATE_VERSION
        )
    _check_same(path, before, _plain(config))
    if content["images"] != images:
        raise OptionError(
            "the images are not those that the run began with",
            got="other files, classes or another split",
            expected=f"the images of {path.parent / 'config.json'}",
            hint="start a new run, or put the images back",
        )
    return state


def _check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    names = [n for n in {**before, **now} if n not in MAY_CHANGE and before.get(n) != now.get(n)]
    if names:
        raise OptionError(
            f"the run in {path.parent} was started with other options",
            got=", ".join(f"{name}={now.get(name)}" for name in names),
            expected=", ".join(f"{name}={before.get(name)}" for name in names),
            hint="resume with the same options, or start a new run in another folder",
        )


def _plain(config: TrainConfig) -> dict[str, Any]:
    """The options as JSON has them: a tuple and a list must not differ."""
    plain: dict[str, Any] = encode(config)
    return plain


def as_confusion(counts: torch.Tensor) -> Confusion:
    """The matrix as NumPy's int64 on the CPU."""
    return counts.cpu().numpy().astype(np.int64)
