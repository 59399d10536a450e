"""ONNX files, engines and checkpoints to arrays, behind one interface."""

from vitrify.runtimes.base import Array, Runtime, RuntimeOptions, Signature, TensorInfo
from vitrify.runtimes.registry import (
    CHECKPOINT_SUFFIXES,
    RUNTIMES,
    RuntimeRow,
    has_native_bf16,
    open_runtime,
    pick_runtime,
    runtimes_for,
)

__all__ = [
    "CHECKPOINT_SUFFIXES",
    "RUNTIMES",
    "Array",
    "Runtime",
    "RuntimeOptions",
    "RuntimeRow",
    "Signature",
    "TensorInfo",
    "has_native_bf16",
    "open_runtime",
    "pick_runtime",
    "runtimes_for",
]
