"""Which nodes of a graph compute in fp16 or bf16.

Norms and softmax stay in fp32: a square overflows fp16 from 256 on, and their sums lose bits in either type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from vitrify.graphs import GraphIndex, is_block, opset_of, part_of
from vitrify.precision.observing import element_types

FP16_LARGEST = 65504.0
"""IEEE 754 binary16."""

HEADROOM = 4.0
"""Magnitudes seen on calibration images, times this, have to fit: other images reach further."""

_NORM = re.compile(r"(^|\.)(\w*norm\w*|ln_?\d*)$", re.IGNORECASE)
_FRAGILE = frozenset(
    {"LayerNormalization", "Softmax", "ReduceMean", "ReduceSum", "ReduceL2", "LpNormalization", "Pow", "Sqrt", "Exp"}
)
# fmt: off
_MOVES = frozenset({
    "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Tile",
    "Transpose", "Unsqueeze", "Where",
})
_COMPUTES = frozenset({
    "Add", "Clip", "Conv", "Cos", "Div", "Erf", "Gelu", "Gemm", "MatMul", "Max", "Min", "Mul", "Neg", "Relu", "Sigmoid",
    "Sin", "Sub", "Tanh",
})
# fmt: on
_FIXED = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Constant"})


@dataclass(frozen=True, kw_only=True)
class HalfType:
    """A 16-bit float type.

    Attributes:
        name: `fp16` or `bf16`.
        onnx_type: Of the numbers.
        dtype: NumPy's type of them.
        largest: Largest finite number.
    """

    name: str
    onnx_type: int
    dtype: npt.DTypeLike
    largest: float


FP16 = HalfType(name="fp16", onnx_type=TensorProto.FLOAT16, dtype=np.float16, largest=FP16_LARGEST)
BF16 = HalfType(
    name="bf16",
    onnx_type=TensorProto.BFLOAT16,
    dtype=ml_dtypes.bfloat16,
    largest=3.3895313892515355e38,
)


@dataclass(frozen=True, kw_only=True)
class CastPlan:
    """Which nodes compute in 16 bits.

    Attributes:
        low: Names of those that do.
        large: Tensors whose magnitude kept their nodes in fp32.
        unknown: Operators without a rule, which stay in fp32.
    """

    low: frozenset[str]
    large: tuple[str, ...]
    unknown: tuple[str, ...]


def plan_casts(
    proto: onnx.ModelProto,
    half: HalfType,
    *,
    magnitudes: Mapping[str, float],
    residual_fp32: bool = False,
    attention_fp32: bool = False,
    keep_parts: Iterable[str] = (),
) -> CastPlan:
    """Decides for every float node.

    Args:
        proto: A graph in fp32.
        half: The 16-bit type.
        magnitudes: Largest magnitude of each tensor, as `observe_magnitudes` measures it; without an entry, a tensor is
            taken to fit.
        residual_fp32: Keep the sums of the residual stream in fp32.
        attention_fp32: Keep attention from the scores to the weighted values in fp32.
        keep_parts: Parts of the network that stay in fp32 as a whole.
    """
    types = element_types(proto)
    index = GraphIndex(proto.graph)
    kept_parts = frozenset(keep_parts)
    opset = opset_of(proto)
    limit = half.largest / HEADROOM
    large = {name for name, magnitude in magnitudes.items() if magnitude > limit}
    large |= {
        name
        for name, weight in index.weights.items()
        if weight.data_type == TensorProto.FLOAT and np.abs(numpy_helper.to_array(weight)).max(initial=0) > half.largest
    }
    low, unknown = set(), set()
    for node in proto.graph.node:
        floats = [name for name in (*node.input, *node.output) if types.get(name) == TensorProto.FLOAT]
        if not any(types.get(name) == TensorProto.FLOAT for name in node.output) or node.op_type in _FIXED:
            continue
        if node.op_type not in _COMPUTES | _MOVES:
            if node.op_type not in _FRAGILE:
                unknown.add(node.op_type)
            continue
        kept = (
            part_of(node.name) in kept_parts
            or not _has_type(node.op_type, opset, half)
            or bool(large.intersection(floats))
            or (node.op_type not in _MOVES and _NORM.search(node.name.rpartition("/")[0]) is not None)
            or (residual_fp32 and _is_residual(index, node))
            or (attention_fp32 and _is_attention_product(index, node))
        )
        if not kept:
            low.add(node.name)
    computed = tuple(name for name in large if name not in index.weights)
    return CastPlan(low=frozenset(low), large=computed, unknown=tuple(sorted(unknown)))


def _has_type(operator: str, opset: int, half: HalfType) -> bool:
    """Whether an operator is defined on a type: Conv on bf16 since opset 22 only."""
    name = {"fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}[half.name]
    schema = onnx.defs.get_schema(operator, opset)
    return any(name in constraint.allowed_type_strs for constraint in schema.type_constraints)


def _is_residual(index: GraphIndex, node: onnx.NodeProto) -> bool:
    """A sum of two computed tensors, on the level of a block: not a bias, and nothing inside attention or MLP."""
    module = node.name.rpartition("/")[0]
    if node.op_type != "Add" or any(index.is_constant(name) for name in node.input):
        return False
    return is_block(module)


def _is_attention_product(index: GraphIndex, node: onnx.NodeProto) -> bool:
    module = node.name.rpartition("/")[0]
    product = node.op_type == "MatMul" and not any(index.is_constant(name) for name in node.input)
    return product or (node.op_type == "Mul" and module.endswith(".attn"))
