from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrify.verification import DriftMeter, LayerComparison, LayerReport, drift_picture


@pytest.mark.parametrize("blocks", [1, 40])
def test_drift_is_a_png_with_exact_and_infinite_parts(tmp_path: Path, blocks: int) -> None:
    meter = DriftMeter("blocks.0")
    meter.add(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32))
    exact = meter.result(0.2, before=None)
    parts = tuple(
        dataclasses.replace(
            exact, part=f"blocks.{number}", reference_magnitude=7e4 * bool(number), candidate_nan=number
        )
        for number in range(blocks)
    )
    comparison = LayerComparison(
        runtime="onnxruntime", precision="int8", inputs="images", count=1, tolerance=0.2, parts=parts,
        first=parts[-1].part, reference_probe_effect=0, candidate_probe_effect=0,
    )  # fmt: skip
    report = LayerReport(
        artifact=r"$\frac{x$.onnx", reference="m.onnx", reference_runtime="onnxruntime", comparisons=(comparison,) * 2,
        only_reference=(), only_artifact=(), other_shapes=(), notes=(), passed=False,
    )  # fmt: skip
    drift_picture(report, tmp_path / "drift.png")
    with Image.open(tmp_path / "drift.png") as image:
        assert image.format == "PNG"
        assert image.height > 500
        assert image.width < 4000
