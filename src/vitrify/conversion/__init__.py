"""Checkpoint to ONNX."""

import importlib.util

from vitrify.errors import MissingExtraError

for _package in ("torch", "onnxscript", "onnxslim"):
    if importlib.util.find_spec(_package) is None:
        raise MissingExtraError("making ONNX from a checkpoint needs PyTorch", extra="train", package=_package)

from vitrify.conversion.exporters import (  # noqa: E402
    EXPORTERS,
    OPSET,
    OPSETS,
    export_with_dynamo,
    export_with_torchscript,
)
from vitrify.conversion.simplify import check_form, simplify  # noqa: E402

__all__ = [
    "EXPORTERS",
    "OPSET",
    "OPSETS",
    "check_form",
    "export_with_dynamo",
    "export_with_torchscript",
    "simplify",
]
