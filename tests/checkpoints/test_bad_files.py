from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from vitrify.checkpoints import load_checkpoint
from vitrify.errors import CheckpointError

Randomise = Callable[[nn.Module], nn.Module]


class Intruder:
    """Pickles to a call."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def state(randomise: Randomise) -> dict[str, torch.Tensor]:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5)
    return dict(randomise(model).state_dict())


def refused(path: Path, *words: str) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    for word in words:
        assert word in str(caught.value)
    return caught.value


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "gone.pth", "no such file")


def test_wrong_suffix(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    refused(tmp_path / "model.onnx", "the suffix '.onnx'", ".safetensors")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"m{suffix}").touch()
    refused(tmp_path / f"m{suffix}", "empty")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_text_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"m{suffix}").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\n")
    refused(tmp_path / f"m{suffix}")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_truncated_file(tmp_path: Path, state: dict[str, torch.Tensor], suffix: str, part: float) -> None:
    path = tmp_path / f"m{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    refused(path, "truncated")


def test_random_bytes(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(bytes(range(255, 0, -1)) * 9)
    refused(tmp_path / "m.pth", "no PyTorch checkpoint")


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_code_is_refused_and_does_not_run(tmp_path: Path, save: Callable[[Any, Path], Any]) -> None:
    save({"model": {"a": Intruder(tmp_path / "proof")}}, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "wants to run code", "posix.mkdir")
    assert not (tmp_path / "proof").exists()


def test_whole_module(tmp_path: Path) -> None:
    torch.save(timm.create_model("vit_tiny_patch16_224", depth=1), tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "whole model object, not a state_dict", "model.state_dict()")


def test_a_network_of_another_kind(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "no Vision Transformer", "conv1.weight [64, 3, 7, 7]")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, torch.zeros(3), "text", {"model": {}}])
def test_a_pickle_that_holds_no_weights(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "no state_dict")


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    del state["blocks.1.norm1.weight"]
    state["adapter.weight"] = torch.zeros(3)
    state["norm.bias"] = torch.zeros(7)
    torch.save(state, tmp_path / "m.pth")
    refused(
        tmp_path / "m.pth",
        "1 missing: blocks.1.norm1.weight [192]",
        "1 unexpected: adapter.weight [3]",
        "1 of another shape: norm.bias [7] instead of [192]",
    )


@pytest.mark.parametrize("name", ["patch_embed.proj.weight", "pos_embed", "head.weight", "blocks.0.mlp.fc1.weight"])
def test_tensors_of_another_rank(tmp_path: Path, state: dict[str, torch.Tensor], name: str) -> None:
    state[name] = state[name].flatten()
    torch.save(state, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "no Vision Transformer", name)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path: Path, state: dict[str, torch.Tensor], value: float) -> None:
    state["blocks.0.mlp.fc1.bias"][3] = value
    torch.save(state, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "not finite", "blocks.0.mlp.fc1.bias")


def test_weights_of_another_kind(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    state["head.weight"] = state["head.weight"].to(torch.int8)
    torch.save(state, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "no floating-point numbers", "head.weight torch.int8")


def test_tensors_that_do_not_go_together(tmp_path: Path) -> None:
    stem = "vit.encoder.layer.0.attention.attention"
    state = {
        "vit.embeddings.patch_embeddings.projection.weight": torch.zeros(8, 3, 4, 4),
        **{f"{stem}.{part}.weight": torch.zeros(8, 8 + i) for i, part in enumerate(("query", "key", "value"))},
    }
    torch.save(state, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "huggingface", "do not go together")


def test_grey_images(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", in_chans=1, depth=1)
    torch.save(model.state_dict(), tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "1 input channels")


def test_folders(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    refused(tmp_path, "folder without weights", "an empty folder")
    torch.save(state, tmp_path / "a.pth")
    assert load_checkpoint(tmp_path).num_classes == 5
    torch.save(state, tmp_path / "b.pth")
    refused(tmp_path, "several weight files", "a.pth, b.pth")
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "b.pth").unlink()
    refused(tmp_path, "config.json is no JSON")


def test_shard_names_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret.safetensors"}}')
    refused(tmp_path, "lists no weight files")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    refused(tmp_path, "no such file")
