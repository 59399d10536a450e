"""The small artifact with something changed, and what a comparison part by part is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from vitrify.graphs import write_artifact
from vitrify.spec import SPEC_KEY, ModelSpec
from vitrify.verification import LayerReport

PARTS = ["patch_embed", "embedding", "blocks.0", "blocks.1", "norm", "head"]


def rewritten(artifact: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(artifact)
    change(model)
    return saved(model, target)


def saved(model: onnx.ModelProto, target: Path) -> Path:
    """Written as vitrify writes it, so that only what it answers gives the change away."""
    texts = {entry.key: entry.value for entry in model.metadata_props}
    write_artifact(model, ModelSpec.from_json(texts[SPEC_KEY]), target)
    return target


def firsts(report: LayerReport) -> set[str | None]:
    return {comparison.first for comparison in report.comparisons}
