from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrify.training.metrics import EpochRow
from vitrify.training.pictures import DriftLine, draw_confusion, draw_curves, draw_drift


def row(epoch: int) -> EpochRow:
    return EpochRow(
        epoch=epoch,
        lr=1e-3,
        train_loss=1 / epoch,
        val_loss=1.1 / epoch,
        val_top1=0.5,
        val_top5=0.9,
        images_per_s=1,
        seconds=1,
    )


@pytest.mark.parametrize("epochs", [1, 40])
def test_curves_are_a_png(tmp_path: Path, epochs: int) -> None:
    rows = [row(epoch) for epoch in range(1, epochs + 1)]
    draw_curves(tmp_path / "curves.png", rows, rows[0], "a model on images")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"
        assert image.width > 2 * image.height


@pytest.mark.parametrize("classes", [2, 30, 100])
def test_confusion_is_a_png_of_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    labels = [f"a class with a very long name {i}" for i in range(classes)]
    draw_confusion(tmp_path / "confusion.png", np.eye(classes, dtype=np.int64), labels, "a model on images")
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 400
        assert max(image.size) < 4000


@pytest.mark.parametrize("blocks", [1, 40])
def test_drift_is_a_png_with_exact_and_infinite_parts(tmp_path: Path, blocks: int) -> None:
    parts = tuple(f"blocks.{number}" for number in range(blocks))
    line = DriftLine(
        label="onnxruntime int8, images",
        parts=parts,
        errors=(0.0,) * blocks,
        magnitudes=(0.0,) + (7e4,) * (blocks - 1),
        finite=(True,) * (blocks - 1) + (False,),
        tolerance=0.2,
        first=parts[-1],
    )
    draw_drift(tmp_path / "drift.png", [line], "m.int8.onnx against m.onnx", fp16_max=65504.0)
    with Image.open(tmp_path / "drift.png") as image:
        assert image.format == "PNG"
        assert image.height > 500
        assert image.width < 4000
