"""Precision as a graph rewrite, ONNX to ONNX: fp16 and bf16 as types, int8 and fp8 as Q/DQ nodes."""

from vitrify.precision.for_engine import graph_for_engine
from vitrify.precision.ladder import FALLBACKS, steps
from vitrify.precision.observing import Batches
from vitrify.precision.ranges import Calibrator
from vitrify.precision.recipe import Around, Recipe, Rewriter, Rewritten, Target
from vitrify.precision.weights import with_float_weights

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
    "with_float_weights",
]
