"""Rewrites of an ONNX graph, one a file: where each may apply, why it stays away, what it does."""

from vitrify.graphs.rewrites.casts import BF16, FP16, Casts, HalfType
from vitrify.graphs.rewrites.class_token import ClassToken
from vitrify.graphs.rewrites.float_weights import FloatWeights, with_float_weights
from vitrify.graphs.rewrites.known_sizes import KnownSizes
from vitrify.graphs.rewrites.probes import Probes, probed_model
from vitrify.graphs.rewrites.qdq import FP8, INT8, QuantizedLayers, QuantizedType, Rounded, storable_scales
from vitrify.graphs.rewrites.smoothing import Division, Shared, Smoothing
from vitrify.graphs.rewrites.split_qkv import SplitQkv

__all__ = [
    "BF16",
    "FP16",
    "FP8",
    "INT8",
    "Casts",
    "ClassToken",
    "Division",
    "FloatWeights",
    "HalfType",
    "KnownSizes",
    "Probes",
    "QuantizedLayers",
    "QuantizedType",
    "Rounded",
    "Shared",
    "Smoothing",
    "SplitQkv",
    "probed_model",
    "storable_scales",
    "with_float_weights",
]
