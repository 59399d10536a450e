from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vitrify.training.metrics import EpochRow
from vitrify.training.report import curves_picture


@pytest.mark.parametrize("epochs", [1, 40])
def test_curves_are_a_png(tmp_path: Path, epochs: int) -> None:
    given: dict[str, Any] = {"lr": 1e-3, "val_top1": 0.5, "val_top5": 0.9, "images_per_s": 1, "seconds": 1}
    rows = [EpochRow(epoch=n, train_loss=1 / n, val_loss=1.1 / n, **given) for n in range(1, epochs + 1)]
    curves_picture(tmp_path / "curves.png", rows, rows[0], r"a model on $\frac{x$")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"
        assert image.width > 2 * image.height
