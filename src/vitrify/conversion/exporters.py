"""A timm model to an ONNX graph, by PyTorch's two exporters."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from onnxscript import opset18 as op
from torch import nn

from vitrify.spec import ModelSpec

OPSET = 18
"""The newest that TensorRT 10 and 11, ONNX Runtime and OpenVINO all read; LayerNormalization is one op since 17."""

OPSETS = (16, OPSET)
"""16 is for TensorRT 8.5, which does not know LayerNormalization: the tracer then writes it in steps."""

_BATCH = "batch"


def export_with_dynamo(model: nn.Module, spec: ModelSpec, opset: int = OPSET) -> onnx.ModelProto:
    """Exports through `torch.export`, with GELU and attention written in the form that runtimes fuse.

    Args:
        model: In eval mode, `[B, 3, H, W]` float32 to `[B, classes]`.
        spec: Gives tensor names and the input size.
        opset: Of `OPSETS`; 18 alone for this exporter.

    Returns:
        A graph with a dynamic batch axis.

    Raises:
        Exception: Whatever PyTorch raises on a model that it cannot export.
    """
    batch = torch.export.Dim(_BATCH, min=1, max=1 << 16)
    with _quiet():
        # A batch of 2: torch.export bakes a size of 1 in as a constant.
        program = torch.onnx.export(
            model,
            (torch.zeros(2, *spec.input_shape),),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=[spec.input.name],
            output_names=[spec.output.name],
            dynamic_shapes=({0: batch},),
            external_data=False,
            custom_translation_table=_translations(model),
        )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


def export_with_torchscript(model: nn.Module, spec: ModelSpec, opset: int = OPSET) -> onnx.ModelProto:
    """Exports by tracing, PyTorch's older way, and the only one that writes opset 16.

    Args, Returns, Raises: As `export_with_dynamo`.
    """
    with _quiet(), TemporaryDirectory() as folder, _plain_attention(model, only=opset < OPSET):
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            model,
            (torch.zeros(2, *spec.input_shape),),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=[spec.input.name],
            output_names=[spec.output.name],
            dynamic_axes={spec.input.name: {0: _BATCH}, spec.output.name: {0: _BATCH}},
        )
        return onnx.load(path)


EXPORTERS: dict[str, Callable[..., onnx.ModelProto]] = {
    "dynamo": export_with_dynamo,
    "torchscript": export_with_torchscript,
}
"""In the order in which they are tried."""


def _translations(model: nn.Module) -> dict[Callable[..., Any], Callable[..., Any]]:
    table: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.gelu.default: _gelu}
    if not _has_masked_attention(model):
        table[torch.ops.aten.scaled_dot_product_attention.default] = _attention
    return table


def _has_masked_attention(model: nn.Module) -> bool:
    return any(
        hasattr(module, "attn_mask") or hasattr(module, "relative_position_bias_table") for module in model.modules()
    )


def _gelu(self: Any, approximate: str = "none") -> Any:
    # PyTorch's own translation multiplies 0.5 into (1 + erf) first, which ONNX Runtime's fusion does not recognise.
    if approximate == "tanh":
        cubed = op.Mul(self, op.Mul(self, self))
        inner = op.Mul(math.sqrt(2 / math.pi), op.Add(self, op.Mul(0.044715, cubed)))
        return op.Mul(0.5, op.Mul(self, op.Add(op.Tanh(inner), 1.0)))
    return op.Mul(op.Mul(self, op.Add(op.Erf(op.Div(self, math.sqrt(2))), 1.0)), 0.5)


def _attention(  # noqa: PLR0917 - the operator's own order
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    # Q and K scaled before the product keeps fp16 in range, and MatMul-Softmax-MatMul without shape arithmetic between
    # is what TensorRT, OpenVINO and ONNX Runtime fuse. PyTorch's own translation reshapes K by run-time shapes.
    if attn_mask is not None or is_causal or enable_gqa:
        raise NotImplementedError("masked or grouped attention")
    root = math.sqrt(scale if scale is not None else 1 / math.sqrt(query.shape[-1]))
    scores = op.MatMul(op.Mul(query, root), op.Mul(op.Transpose(key, perm=[0, 1, 3, 2]), root))
    return op.MatMul(op.Softmax(scores, axis=-1), value)


@contextlib.contextmanager
def _plain_attention(model: nn.Module, *, only: bool) -> Iterator[None]:
    """Has timm's attention multiply step by step: the tracer computes the scale of the fused call from shapes."""
    fused = [module for module in model.modules() if only and getattr(module, "fused_attn", False) is True]
    for module in fused:
        setattr(module, "fused_attn", False)  # noqa: B010 - no attribute that mypy knows of a Module
    try:
        yield
    finally:
        for module in fused:
            setattr(module, "fused_attn", True)  # noqa: B010


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The exporters print and warn about their own internals; what matters to the user is judged by comparison after.
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
