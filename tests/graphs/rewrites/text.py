"""Graphs written in ONNX text, and what they compute by ONNX's own reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator


def parsed(
    text: str, weights: Mapping[str, Any] | None = None, *, modules: Mapping[str, str] | None = None, opset: int = 18
) -> onnx.ModelProto:
    """A model of one graph.

    Args:
        text: `name (inputs) => (outputs) <weights> { nodes }`.
        weights: Further initializers.
        modules: The module of the node that makes a tensor, which its name begins with.
        opset: Of ONNX's own operators.
    """
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> {text}')
    for name, value in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    for number, node in enumerate(model.graph.node):
        module = (modules or {}).get(node.output[0], "")
        node.name = f"{module}/{node.op_type}_{number}" if module else f"{node.op_type}_{number}"
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, **inputs: Any) -> dict[str, Any]:
    """What a model gives out, by name."""
    onnx.checker.check_model(model, full_check=True)
    names = [value.name for value in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(None, inputs), strict=True))


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Numbers that all differ."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def operators(model: onnx.ModelProto) -> list[str]:
    """In the graph's order."""
    return [node.op_type for node in model.graph.node]
