"""The small artifact with something changed, and what a comparison part by part is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from vitrify.verification import LayerReport

PARTS = ["patch_embed", "embedding", "blocks.0", "blocks.1", "norm", "head"]


def rewritten(artifact: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(artifact)
    change(model)
    onnx.save(model, target)
    return target


def firsts(report: LayerReport) -> set[str | None]:
    return {comparison.first for comparison in report.comparisons}
