"""ONNX files, engines and checkpoints to arrays, behind one interface."""

from vitrify.runtimes.base import Array, Runtime, RuntimeOptions, Signature, TensorInfo
from vitrify.runtimes.devices import OnDevice, PixelsOn, PreparesImages, preparer
from vitrify.runtimes.registry import (
    RUNTIMES,
    RuntimeRow,
    exact_runtime_for,
    has_native_bf16,
    open_runtime,
    pick_runtime,
    runtimes_for,
)
from vitrify.runtimes.self_testing import SelfTest, self_test
from vitrify.runtimes.through_spec import check_outputs, infer_logits, infer_outputs

__all__ = [
    "RUNTIMES",
    "Array",
    "OnDevice",
    "PixelsOn",
    "PreparesImages",
    "Runtime",
    "RuntimeOptions",
    "RuntimeRow",
    "SelfTest",
    "Signature",
    "TensorInfo",
    "check_outputs",
    "exact_runtime_for",
    "has_native_bf16",
    "infer_logits",
    "infer_outputs",
    "open_runtime",
    "pick_runtime",
    "preparer",
    "runtimes_for",
    "self_test",
]
