"""The folder of a run.

best.safetensors  weights of the best epoch, with their spec      last.safetensors  those of the last epoch
metrics.csv       one row an epoch                                tensorboard/      the same, for TensorBoard
curves.png        losses and accuracy                             confusion.png     of the best epoch
report.md         what was trained, on what, how well             config.json       every option
state.pt          what --resume goes on from

While a run is written, `.lock` keeps other processes out. A run that replaces another moves it into `.replaced` until
its own first epoch is on the disk; where that never happens, the earlier one comes back: at once, or when the folder is
next opened, where the process was killed.
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
_TENSORBOARD = "tensorboard"
_REPLACED = ".replaced"


class RunFolder:
    """Where a run is kept. A context manager: it closes TensorBoard's file, and puts back a run that was not replaced.

    Args:
        path: The folder; whoever writes to it holds it by `vitrify.files.locked_folder`.
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
        settle(self.path)

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

    def replace(self) -> None:
        """Moves the run that is there out of the way, until `save_epoch` has written one to stand in its place."""
        if held := _contents(self.path):
            (self.path / _REPLACED).mkdir()
            for path in held:
                path.rename(self.path / _REPLACED / path.name)

    @property
    def replaces(self) -> bool:
        """Whether there is an earlier run that comes back if this one ends now."""
        return (self.path / _REPLACED).is_dir()

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
        settle(self.path)

    def _log(self, row: EpochRow) -> None:
        if self._writer is None:
            with warnings.catch_warnings():
                # TensorBoard's own imports warn of what its dependencies will change one day.
                warnings.simplefilter("ignore")
                from torch.utils.tensorboard import SummaryWriter

                # A run that goes on must not show the epoch that was interrupted twice.
                self._writer = SummaryWriter(str(self.path / _TENSORBOARD), purge_step=row.epoch)
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


def settle(path: Path) -> bool:
    """Ends a replacement: drops the earlier run where the new one has an epoch, and else puts it back.

    Args:
        path: The run's folder, held by this process.

    Returns:
        Whether an earlier run was put back.
    """
    earlier = path / _REPLACED
    if not earlier.is_dir():
        return False
    # state.pt is the last file of an epoch to be written. It is the first that `replace` moves away and the last to
    # come back, so that a process may be killed anywhere in between.
    back = not (path / "state.pt").exists()
    if back:
        for left in _contents(path):
            if (earlier / left.name).exists():
                _remove(left)
        for each in reversed(_contents(earlier)):
            each.rename(path / each.name)
    _remove(earlier)
    return back


def _contents(path: Path) -> list[Path]:
    """What a run writes and is there, and nothing else; state.pt first."""
    return [path / name for name in (*reversed(FILES), _TENSORBOARD) if (path / name).exists()]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def check_place(path: Path, data: Path) -> None:
    """Refuses a folder that no run can be written to, before any image is read.

    Raises:
        OptionError: A file, or a folder inside the images.
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


def check_run(path: Path, config: TrainConfig) -> None:
    """Refuses a folder whose run does not suit the options. It is held by this process and settled.

    Raises:
        OptionError: A folder with another run, or none to resume.
    """
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
