"""A small ViT trained on scikit-learn's digits: precision is judged on weights that know something, not on noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from tests.small import ARCHITECTURE, small_spec
from vitrify.checkpoints import save_checkpoint
from vitrify.pixels import preprocess
from vitrify.workflows.export import onnx_from_checkpoint

SHAPE: dict[str, Any] = {"img_size": 16, "patch_size": 4, "depth": 3, "embed_dim": 64, "num_heads": 2}
SPEC = small_spec(tuple("0123456789"), SHAPE)


@dataclass(frozen=True)
class Digits:
    """A trained model and its data.

    Attributes:
        model: In eval mode.
        onnx: The model, exported.
        calibration: Some of the images that it was trained on.
        held_out: Others, with their labels.
        labels: Of `held_out`.
        folder: `held_out` as files, a folder a class.
    """

    model: nn.Module
    onnx: Path
    calibration: tuple[npt.NDArray[np.uint8], ...]
    held_out: tuple[npt.NDArray[np.uint8], ...]
    labels: tuple[int, ...]
    folder: Path


def train(root: Path) -> Digits:
    """Trains for some seconds; about 95% of the held-out digits are right then."""
    scans, labels = load_digits(return_X_y=True)
    images = [np.repeat(scan.reshape(8, 8, 1) * 15, 3, axis=2).astype(np.uint8) for scan in scans]
    order = np.random.default_rng(0).permutation(len(images))
    held, taught = order[:300], order[300:]
    torch.manual_seed(0)
    model = timm.create_model(ARCHITECTURE, num_classes=10, **SHAPE)
    inputs = torch.from_numpy(preprocess([images[n] for n in taught], SPEC.preprocess))
    truth = torch.from_numpy(labels[taught]).long()
    epochs, batch = 14, 64
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * (len(taught) // batch))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # products this small are slower when cores wait for each other
    model.train()
    for _ in range(epochs):
        shuffled = torch.randperm(len(taught))
        for step in range(len(taught) // batch):
            chosen = shuffled[step * batch : (step + 1) * batch]
            loss = nn.functional.cross_entropy(model(inputs[chosen]), truth[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    torch.set_num_threads(threads)
    model.eval()
    folder = root / "held-out"
    for n in held:
        path = folder / str(labels[n]) / f"{n:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[n]).save(path)
    return Digits(
        model=model,
        onnx=export(model, root / "digits.onnx"),
        calibration=tuple(images[n] for n in taught[:96]),
        held_out=tuple(images[n] for n in held),
        labels=tuple(int(labels[n]) for n in held),
        folder=folder,
    )


def export(model: nn.Module, path: Path, *, opset: int = 18) -> Path:
    """The model as an artifact."""
    checkpoint = path.with_suffix(".safetensors")
    save_checkpoint(checkpoint, model, SPEC)
    onnx_from_checkpoint(checkpoint, path, opset=opset)
    return path


def accuracy(logits: npt.NDArray[np.float32], labels: tuple[int, ...]) -> float:
    """Share of rows whose best class is right; a row with a number that is none has no best class."""
    finite = np.isfinite(logits).all(axis=1)
    return float((finite & (logits.argmax(axis=1) == np.asarray(labels))).mean())
