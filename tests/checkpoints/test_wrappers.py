from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from vitrify.checkpoints import Overrides, load_checkpoint

Randomise = Callable[[nn.Module], nn.Module]
Images = Callable[..., torch.Tensor]
State = dict[str, Any]

SMALL: dict[str, Any] = {"img_size": 48, "patch_size": 8, "embed_dim": 192, "depth": 2, "num_classes": 5}


@pytest.fixture
def model(randomise: Randomise) -> nn.Module:
    return randomise(timm.create_model("vit_tiny_patch16_224", **SMALL))


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


WRAPPERS: dict[str, Callable[[State], State]] = {
    "DataParallel": lambda s: prefixed(s, "module."),
    "torch.compile": lambda s: prefixed(s, "_orig_mod."),
    "both": lambda s: prefixed(s, "module._orig_mod."),
    "model": lambda s: {"model": s, "epoch": 9},
    "state_dict": lambda s: {"state_dict": prefixed(s, "module."), "optimizer": {"state": {}, "param_groups": []}},
    "nested": lambda s: {"checkpoint": 1, "state": None, "model": {"state_dict": s}},
    "lightning": lambda s: {
        "state_dict": prefixed(s, "model.") | {"criterion.weight": torch.ones(5)},
        "hyper_parameters": {"lr": 1e-3},
        "epoch": 3,
        "global_step": 70,
        "pytorch-lightning_version": "2.4.0",
    },
    "lightning net": lambda s: {"state_dict": prefixed(s, "net._orig_mod.")},
    "backbone and head": lambda s: (
        prefixed({k: v for k, v in s.items() if "head" not in k}, "backbone.")
        | {k: v for k, v in s.items() if "head" in k}
    ),
    "averaged model": lambda s: prefixed(s, "module.") | {"n_averaged": torch.tensor(7)},
    "with arguments": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1), "acc": np.float64(81.5)},
    "only EMA": lambda s: {"state_dict": {}, "state_dict_ema": s},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_wrapper_comes_off(tmp_path: Path, model: nn.Module, images: Images, wrapper: str) -> None:
    torch.save(WRAPPERS[wrapper](dict(model.state_dict())), tmp_path / "last.ckpt")
    loaded = load_checkpoint(tmp_path / "last.ckpt")
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)


def test_what_was_left_out_is_told(tmp_path: Path, model: nn.Module) -> None:
    torch.save(WRAPPERS["lightning"](dict(model.state_dict())), tmp_path / "last.ckpt")
    assert load_checkpoint(tmp_path / "last.ckpt").notes == (
        "left out 1 tensors outside the model, such as criterion.weight",
    )


@pytest.mark.parametrize("form", ["timm", "deit", "lightning"])
def test_the_moving_average_is_preferred_and_told(tmp_path: Path, model: nn.Module, images: Images, form: str) -> None:
    ema = dict(model.state_dict())
    raw = {name: value + 0.5 for name, value in ema.items()}
    contents: dict[str, State] = {
        "timm": {"state_dict": raw, "state_dict_ema": ema, "arch": "vit_tiny_patch16_224"},
        "deit": {"model": prefixed(raw, "module."), "model_ema": prefixed(ema, "module.")},
        "lightning": {"state_dict": prefixed(raw, "model.") | prefixed(ema, "model_ema.module.")},
    }
    torch.save(contents[form], tmp_path / "best.pth")
    averaged = load_checkpoint(tmp_path / "best.pth")
    torch.testing.assert_close(averaged.model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)
    assert any("took the exponential moving average" in note for note in averaged.notes)
    raw_loaded = load_checkpoint(tmp_path / "best.pth", overrides=Overrides(raw_weights=True))
    torch.testing.assert_close(raw_loaded.model.state_dict(), raw)
    assert any("took the raw weights" in note for note in raw_loaded.notes)


def test_the_architecture_that_a_script_stored_counts(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = randomise(timm.create_model("test_vit", num_classes=5))
    torch.save({"arch": "test_vit", "state_dict": model.state_dict()}, tmp_path / "best.pth")
    loaded = load_checkpoint(tmp_path / "best.pth")
    torch.testing.assert_close(loaded.model(images(160)), model(images(160)), atol=1e-5, rtol=1e-5)
    assert (loaded.source.architecture, loaded.notes) == ("test_vit", ())


@pytest.mark.parametrize("arch", ["resnet50", "deit_tiny_distilled_patch16_224", "our-model"])
def test_a_stored_architecture_that_does_not_fit_is_no_obstacle(tmp_path: Path, model: nn.Module, arch: str) -> None:
    torch.save({"arch": arch, "state_dict": model.state_dict()}, tmp_path / "best.pth")
    assert load_checkpoint(tmp_path / "best.pth").num_classes == 5


def test_timm_folder(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = randomise(timm.create_model("test_vit", num_classes=2))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    config = {
        "architecture": "test_vit",
        "num_classes": 2,
        "global_pool": "token",
        "label_names": ["cat", "dog"],
        "pretrained_cfg": {
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "interpolation": "bicubic",
            "crop_pct": 0.5,
            "crop_mode": "center",
            "input_size": [3, 160, 160],
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_checkpoint(tmp_path)
    torch.testing.assert_close(loaded.model(images(160)), model(images(160)), atol=1e-5, rtol=1e-5)
    assert (loaded.source.architecture, loaded.source.model_kwargs) == ("test_vit", {})
    assert loaded.labels == ("cat", "dog")
    assert (loaded.preprocess.mean, loaded.preprocess.resize_height) == ((0.1, 0.2, 0.3), 320)
