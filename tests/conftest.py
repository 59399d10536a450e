"""Small models and images that many tests share."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from tests.precision import digits
from tests.small import ARCHITECTURE, small_spec
from vitrify.checkpoints import save_checkpoint
from vitrify.spec import ModelSpec
from vitrify.workflows.export import ExportResult, onnx_from_checkpoint

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="vitrify-tests-")  # verdicts and timings of this run alone
torch.set_num_threads(2)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts what it puts in the background this way; Ctrl-C is tested all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)

LABELS = ("daisy", "dandelion", "rose", "sunflower", "tulip", "weed")
MODEL_KWARGS: dict[str, Any] = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 64, "num_heads": 2}


def tiny_spec(labels: tuple[str, ...] = LABELS) -> ModelSpec:
    """The spec of `tiny_model`."""
    return small_spec(labels, MODEL_KWARGS, resize_rule="shortest", resize=36)


def tiny_model(classes: int = len(LABELS), *, seed: int = 0) -> nn.Module:
    """A two-block ViT whose weights are all random, so that no part of it is an identity."""
    torch.manual_seed(seed)
    model = timm.create_model(ARCHITECTURE, num_classes=classes, **MODEL_KWARGS)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_model` as one of vitrify's own checkpoints."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, tiny_model(), tiny_spec())
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small pictures in six class folders: smooth colour fields, as photographs are, not noise."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(40):
        label = LABELS[number % len(LABELS)]
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        width, height = (int(n) for n in rng.integers(30, 90, 2))
        path = root / label / f"{number:02d}.{'png' if number % 2 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path)
    return root


@pytest.fixture(scope="session")
def exported(checkpoint: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """`tiny_model` exported to ONNX, judged on `photos`."""
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    return onnx_from_checkpoint(checkpoint, path, images=sorted(photos.rglob("*.*g")))


@pytest.fixture(scope="session")
def artifact(exported: ExportResult) -> Path:
    """The path of `exported`."""
    return exported.path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    """A ViT that reads digits, exported, with its images."""
    return digits.train(tmp_path_factory.mktemp("digits"))
