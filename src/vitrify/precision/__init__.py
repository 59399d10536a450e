"""Precision as a graph rewrite, ONNX to ONNX: fp16 and bf16 as types, int8 and fp8 as Q/DQ nodes."""

from vitrify.precision.observing import Batches, Calibrator
from vitrify.precision.recipe import FALLBACKS, Around, Recipe, Target, steps
from vitrify.precision.rewriter import Rewriter, Rewritten, graph_for_engine

__all__ = [
    "FALLBACKS",
    "Around",
    "Batches",
    "Calibrator",
    "Recipe",
    "Rewriter",
    "Rewritten",
    "Target",
    "graph_for_engine",
    "steps",
]
