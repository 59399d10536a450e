"""The folder of a run.

best.safetensors  weights of the best epoch, with their spec      last.safetensors  those of the last epoch
metrics.csv       one row an epoch                                tensorboard/      the same, for TensorBoard
curves.png        losses and accuracy                             confusion.png     of the best epoch
report.md         what was trained, on what, how well             config.json       every option
state.pt          what --resume goes on from
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from vitrify.checkpoints import save_checkpoint
from vitrify.errors import OptionError
from vitrify.files import atomic_write
from vitrify.spec import ModelSpec
from vitrify.training.config import TrainConfig
from vitrify.training.metrics import EpochRow, csv_of
from vitrify.training.state import RunState, load_state, save_state

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILES = (
    "best.safetensors",
    "last.safetensors",
    "metrics.csv",
    "curves.png",
    "confusion.png",
    "report.md",
    "config.json",
    "state.pt",
)
_MARKS = ("state.pt", "best.safetensors", "last.safetensors")


class RunFolder:
    """Where a run is kept. A context manager: it closes TensorBoard's file.

    Args:
        path: The folder; made when the first file is written.
        config: Resolved options.
        images: `vitrify.training.state.fingerprint` of the images.
    """

    def __init__(self, path: Path, config: TrainConfig, images: str) -> None:
        self.path = path
        self._config = config
        self._images = images
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    @property
    def best(self) -> Path:
        """Weights of the best epoch."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Weights of the last epoch."""
        return self.path / "last.safetensors"

    def load(self) -> RunState:
        """The state of the run that is to go on.

        Raises:
            OptionError: It had other options or images.
            CheckpointError: It cannot be read.
        """
        return load_state(self.path / "state.pt", self._config, self._images)

    def clear(self) -> None:
        """Removes what a run writes, and nothing else."""
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / "tensorboard", ignore_errors=True)

    def save_epoch(self, state: RunState, model: nn.Module, spec: ModelSpec) -> None:
        """Writes the checkpoints, the metrics and, last, the state that stands for all of them.

        Args:
            state: After the epoch.
            model: What the epoch's validation used.
            spec: Of the checkpoints.

        Raises:
            StorageError: A file cannot be written; `state.pt` is still the one before.
        """
        if state.best is state.history[-1]:
            save_checkpoint(self.best, model, spec)
        save_checkpoint(self.last, model, spec)
        atomic_write(self.path / "metrics.csv", csv_of(state.history))
        self._log(state.history[-1])
        save_state(self.path / "state.pt", state, self._config, self._images)

    def _log(self, row: EpochRow) -> None:
        if self._writer is None:
            with warnings.catch_warnings():
                # TensorBoard's own imports warn of what its dependencies will change one day.
                warnings.simplefilter("ignore")
                from torch.utils.tensorboard import SummaryWriter

                # A run that goes on must not show the epoch that was interrupted twice.
                self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=row.epoch)
        values = {
            "loss/train": row.train_loss,
            "loss/val": row.val_loss,
            "accuracy/top1": row.val_top1,
            "lr": row.lr,
            "images_per_s": row.images_per_s,
        }
        if row.val_top5 is not None:
            values["accuracy/top5"] = row.val_top5
        for name, value in values.items():
            self._writer.add_scalar(name, value, row.epoch)
        self._writer.flush()


def check_output(path: Path, data: Path, config: TrainConfig) -> None:
    """Refuses a folder that a run cannot be written to, before any image is read.

    Raises:
        OptionError: A file, a folder inside the images, a folder with another run, or none to resume.
    """
    if path.exists() and not path.is_dir():
        raise OptionError(f"{path} is a file", expected="a folder for the run", hint="name another with -o")
    if path.resolve().is_relative_to(data.resolve()):
        raise OptionError(
            "the run's folder lies inside the images",
            got=f"{path} in {data}",
            expected="a folder elsewhere: in the images it would become a class",
            hint="name another with -o",
        )
    has_state = (path / "state.pt").exists()
    if config.resume and not has_state:
        raise OptionError(f"no run to resume in {path}", got="no state.pt", hint="leave --resume away")
    if not config.resume and not config.overwrite and any((path / name).exists() for name in _MARKS):
        raise OptionError(
            f"{path} holds a run",
            hint="go on with --resume, replace it with --overwrite, or name another folder with -o"
            if has_state
            else "replace it with --overwrite, or name another folder with -o",
        )
