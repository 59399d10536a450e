"""Pictures are PNG files of a sensible size, however many classes there are, and whatever they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrify import plots

NO_FORMULA = r"$\frac{x$"
"""matplotlib would take it for a formula, and fail."""


@pytest.mark.parametrize("classes", [2, 30, 100])
def test_a_confusion_matrix_has_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    labels = [f"a class with a very long name {i}" for i in range(classes)]
    plots.confusion_matrix(tmp_path / "confusion.png", np.eye(classes, dtype=np.int64), labels, "a model on images")
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 400
        assert max(image.size) < 4000


def test_names_are_no_formulas(tmp_path: Path) -> None:
    counts = np.eye(2, dtype=np.int64)
    plots.confusion_matrix(tmp_path / "a.png", counts, [NO_FORMULA, "rose\n\x1b[31m"], NO_FORMULA)
    figure = plots.empty_figure(3, 3)
    plots.name_ticks(figure.subplots(), [NO_FORMULA, "b"])
    plots.save(figure, tmp_path / "b.png", NO_FORMULA)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
