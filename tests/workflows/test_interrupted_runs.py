"""What a training must not lose: the run that it replaces, its own epochs, and itself to a class's name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.test_train import Listener, config, make_images
from vitrify.errors import DatasetError, FolderInUseError, OptionError, TrainingDivergedError
from vitrify.files import locked_folder
from vitrify.training.run_folder import RunFolder, settle
from vitrify.workflows.train import checkpoint_from_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "bars", per_class=8)


@pytest.fixture
def run(images: Path, tmp_path: Path) -> Path:
    checkpoint_from_images(images, tmp_path / "run", config(epochs=1))
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_interrupted_replacement_leaves_the_earlier_run(images: Path, run: Path) -> None:
    before = contents(run)
    listener = Listener(interrupt_in_epoch=1)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_from_images(images, run, config(epochs=2, overwrite=True), listener)
    assert contents(run) == before
    assert any("the earlier run stays" in line for line in listener.said)


def test_a_replacement_that_diverges_at_once_leaves_the_earlier_run(images: Path, run: Path) -> None:
    before = contents(run)
    with pytest.raises(TrainingDivergedError):
        checkpoint_from_images(images, run, config(lr=1e30, overwrite=True, warmup_epochs=0))
    assert contents(run) == before


def test_a_replacement_with_an_epoch_is_all_that_is_left(images: Path, run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        checkpoint_from_images(images, run, config(epochs=3, overwrite=True), Listener(interrupt_in_epoch=2))
    assert not (run / ".replaced").exists()
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert checkpoint_from_images(images, run, config(epochs=3, resume=True)).epochs == 3


@pytest.mark.parametrize("moves", range(12))
def test_a_process_that_is_killed_while_it_replaces_loses_nothing(
    moves: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moving away and moving back may stop after any step, twice."""
    before = contents(run)
    rename, left = Path.rename, [moves]

    def stops(path: Path, target: Path) -> Path:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stops)
    try:
        RunFolder(run, config(), "").replace()
        (run / "config.json").write_text("of the new run")
        (run / "last.safetensors").write_text("half an epoch")
    except KeyboardInterrupt:
        pass
    left[0] = moves % 4
    with contextlib.suppress(KeyboardInterrupt):
        settle(run)
    monkeypatch.setattr(Path, "rename", rename)
    settle(run)
    assert contents(run) == before
    assert not (run / ".replaced").exists()


def test_a_run_whose_replacement_was_killed_can_be_resumed(images: Path, run: Path) -> None:
    RunFolder(run, config(), "").replace()
    with pytest.raises(OptionError, match="other options"):
        checkpoint_from_images(images, run, config(epochs=1, lr=1.0, resume=True))
    assert checkpoint_from_images(images, run, config(epochs=1, resume=True)).epochs == 1


def test_a_second_training_into_the_folder_is_refused(images: Path, run: Path) -> None:
    before = contents(run)
    with locked_folder(run), pytest.raises(FolderInUseError, match=str(os.getpid())):
        checkpoint_from_images(images, run, config(overwrite=True))
    assert contents(run) == before


def test_a_refused_run_leaves_no_folder(images: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no run to resume"):
        checkpoint_from_images(images, tmp_path / "new" / "run", config(resume=True))
    assert not (tmp_path / "new").exists()


NAMES = (r"$\frac{x$", "a$b$c", "new\nline\x1b[31m", "| `code` | <b>", "=1+1", "\u202eevil")


def test_no_name_of_a_class_ends_a_training_or_writes_mark_up(images: Path, tmp_path: Path) -> None:
    for name, folder in zip(NAMES, sorted(images.iterdir()), strict=False):
        folder.rename(images / name)
    for name in NAMES[3:]:
        shutil.copytree(images / NAMES[0], images / name)
    run = tmp_path / "run"
    assert set(checkpoint_from_images(images, run, config(epochs=1)).labels) == set(NAMES)
    assert (run / "confusion.png").exists()
    report = (run / "report.md").read_text()
    assert "<b>" not in report
    assert report.isprintable() or not set(report) & {"\x1b", "\u202e"}
    rows = [line for line in report.splitlines() if line.startswith("|")]
    assert len([row for row in rows if "frac" in row]) >= 2


def test_a_name_that_no_checkpoint_can_hold_is_refused_before_the_training(images: Path, tmp_path: Path) -> None:
    (images / "bar0").rename(images / os.fsdecode(b"\xe9t\xe9"))
    with pytest.raises(DatasetError, match=r"no UTF-8(?s:.*)\\udce9t"):
        checkpoint_from_images(images, tmp_path / "run", config())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_sigterm_ends_as_ctrl_c_does(images: Path, tmp_path: Path, overwrite: bool) -> None:
    run = tmp_path / "run"
    options: list[Any] = [sys.executable, "-m", "vitrify", "train", images, "-o", run, "--arch", "vit_tiny_patch16_224"]
    options += ["--init", "none", "--img-size", "16", "--batch-size", "1" if overwrite else "8", "--device", "cpu"]
    options += ["--model-kwargs", "patch_size=8", "depth=1", "embed_dim=32", "num_heads=2"]
    options += ["--epochs", "10000", *(["--overwrite"] if overwrite else [])]
    if overwrite:
        # In a process of its own: one that has every runtime loaded has crashed while it trained here.
        first = [str(option) for option in options[: options.index("--epochs")]] + ["--epochs", "1"]
        subprocess.run(first, check=True, capture_output=True)
        before = contents(run)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(options, stderr=subprocess.PIPE, text=True, env=environment) as training:
        assert training.stderr is not None
        said = ""
        while ("images to train on" if overwrite else "epoch 2/") not in said:
            said = training.stderr.readline()
            assert said, "it ended by itself"
        if overwrite:
            while not (run / ".replaced" / "config.json").exists() and training.poll() is None:
                time.sleep(0.002)
        training.send_signal(signal.SIGTERM)
        rest = training.stderr.read()
    assert training.returncode == 143
    assert "terminated" in rest
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
    if overwrite:
        assert contents(run) == before
    else:
        assert {"report.md", "curves.png", "state.pt", "best.safetensors"} <= {path.name for path in run.iterdir()}
