from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vitrify.datasets import ImageFolder
from vitrify.errors import CheckpointError
from vitrify.training.config import TrainConfig
from vitrify.training.state import RunState, fingerprint, load_state, save_state

CONFIG = TrainConfig(model_kwargs={"img_size": (16, 16)}).resolved()


def folder(root: str, *names: str) -> ImageFolder:
    return ImageFolder(root=Path(root), labels=("a", "b"), samples=tuple((Path(root, name), 0) for name in names))


def test_the_fingerprint_knows_the_images_and_not_where_they_lie() -> None:
    here = fingerprint(folder("here", "a/1.png", "a/2.png"), folder("here", "a/3.png"))
    assert here == fingerprint(folder("there", "a/1.png", "a/2.png"), folder("there", "a/3.png"))
    assert here != fingerprint(folder("here", "a/1.png"), folder("here", "a/2.png", "a/3.png"))


def test_a_state_comes_back_whole(tmp_path: Path) -> None:
    tensors = {"model": {"w": torch.ones(2)}, "optimizer": {}, "ema": None, "scaler": None}
    save_state(tmp_path / "state.pt", RunState(updates=3, tensors=tensors), CONFIG, "images")
    state = load_state(tmp_path / "state.pt", CONFIG, "images")
    assert (state.updates, state.epoch, state.best) == (3, 0, None)
    assert torch.equal(state.tensors["model"]["w"], torch.ones(2))


@pytest.mark.parametrize("content", [b"", b"no state", b"PK\x03\x04 torn"])
def test_a_damaged_state_is_no_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"(?s)no state of a run.*--overwrite"):
        load_state(tmp_path / "state.pt", CONFIG, "images")


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="no state of a run"):
        load_state(tmp_path / "state.pt", CONFIG, "images")
