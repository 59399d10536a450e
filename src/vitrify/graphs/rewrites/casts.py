"""fp16 and bf16 as types in the graph, with casts where the type changes.

A strongly typed TensorRT, ONNX Runtime and OpenVINO all read the same file. Norms and softmax stay in fp32: a square
overflows fp16 from 256 on, and their sums lose bits in either type.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from vitrify.graphs import Rewrite, drop_unread, element_types, is_block, opset_of, part_of

FP16_LARGEST = 65504.0
"""IEEE 754 binary16."""

HEADROOM = 4.0
"""Magnitudes seen on calibration images, times this, have to fit: other images reach further."""

HALF_SCALE_OPSET = 19
"""Q/DQ scales may have 16 bits since opset 19."""

_LARGEST_STEPS = 448.0
"""The largest 8-bit number: E4M3's."""

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


class Casts(Rewrite[onnx.NodeProto]):
    """Gives nodes a 16-bit type.

    Args:
        proto: A model in fp32.
        half: The 16-bit type.
        magnitudes: Largest magnitude of each tensor, as `observe_magnitudes` measures it; without an entry, a tensor is
            taken to fit.
        residual_fp32: Keep the sums of the residual stream in fp32.
        attention_fp32: Keep attention from the scores to the weighted values in fp32.
        keep_parts: Parts of the network that stay in fp32 as a whole.
        narrow: The graph takes and gives 16 bits too, and not fp32.

    Attributes:
        large: Tensors whose magnitude keeps their nodes in fp32.
        unknown: Operators without a rule, which stay in fp32; known once the graph was gone through.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        half: HalfType,
        *,
        magnitudes: Mapping[str, float],
        residual_fp32: bool = False,
        attention_fp32: bool = False,
        keep_parts: Collection[str] = (),
        narrow: bool = False,
    ) -> None:
        super().__init__(proto)
        self.half, self.opset, self.types = half, opset_of(proto), element_types(proto)
        self.large = tuple(name for name, size in magnitudes.items() if size > half.largest / HEADROOM)
        self.unknown: set[str] = set()
        self._residual_fp32, self._attention_fp32, self._keep_parts = residual_fp32, attention_fp32, keep_parts
        self._outside = half.onnx_type if narrow else TensorProto.FLOAT
        self._too_large = {*self.large, *(name for name in self.index.weights if self._overflows(name))}

    def pattern(self) -> Iterator[onnx.NodeProto]:
        """Nodes that make fp32 numbers, casts and constants aside."""
        for node in self.graph.node:
            if node.op_type not in _FIXED and any(self.types.get(name) == TensorProto.FLOAT for name in node.output):
                yield node

    def check(self, place: onnx.NodeProto) -> str:
        """Its operator is made for 16 bits, its numbers fit, and nobody wants it in fp32."""
        operator, part = place.op_type, part_of(place.name)
        if operator not in _COMPUTES | _MOVES | _FRAGILE:
            self.unknown.add(operator)
        tensors = [tensor for tensor in (*place.input, *place.output) if self.types.get(tensor) == TensorProto.FLOAT]
        large = self._too_large.intersection(tensors)
        in_norm = operator not in _MOVES and _NORM.search(place.name.rpartition("/")[0]) is not None
        reasons = (
            (operator in self.unknown, f"no rule for {operator}"),
            (operator in _FRAGILE, f"too few bits for {operator}"),
            (part in self._keep_parts, f"{part} is kept"),
            (not self._has_type(operator), f"{operator} has no {self.half.name} in opset {self.opset}"),
            (bool(large), f"{min(large, default='')} is too large for {self.half.name}"),
            (in_norm, "part of a norm"),
            (self._residual_fp32 and self._is_residual(place), "a sum of the residual stream"),
            (self._attention_fp32 and self._is_attention_product(place), "attention"),
        )
        return next((f"{place.name or place.output[0]}: {reason}" for holds, reason in reasons if holds), "")

    def rewrite(self, places: Sequence[onnx.NodeProto]) -> None:
        """Walks the graph once, in order, and knows the present type of every tensor."""
        self._low = {place.output[0] for place in places}
        self._given_out = {value.name for value in self.graph.output}
        self._present = {name: kind for name, kind in self.types.items() if kind == TensorProto.FLOAT}
        self._aliases: dict[tuple[str, int], str] = {}
        self._nodes: list[onnx.NodeProto] = []
        for value in (*self.graph.input, *self.graph.output):
            if self.types.get(value.name) == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = self._outside
        for value in self.graph.input:
            if value.name in self._present:
                self._present[value.name] = self._outside
        for node in list(self.graph.node):
            wanted = self._type_of(node)
            if node.op_type not in ("Constant", "Cast"):
                self._give_inputs(node, wanted)
            self._nodes.append(node)
            self._name_outputs(node, wanted)
        del self.graph.node[:]
        self.graph.node.extend(self._nodes)
        self.graph.ClearField("value_info")
        drop_unread(self.graph)

    def _overflows(self, name: str) -> bool:
        weight = self.index.weights[name]
        if weight.data_type != TensorProto.FLOAT:
            return False
        return bool(np.abs(numpy_helper.to_array(weight)).max(initial=0) > self.half.largest)

    def _has_type(self, operator: str) -> bool:
        """Whether an operator is defined on the type: Conv on bf16 since opset 22 only."""
        if operator not in _COMPUTES | _MOVES:  # of another domain perhaps
            return False
        name = {"fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}[self.half.name]
        schema = onnx.defs.get_schema(operator, self.opset)
        return any(name in constraint.allowed_type_strs for constraint in schema.type_constraints)

    def _is_residual(self, node: onnx.NodeProto) -> bool:
        """A sum of two computed tensors, on the level of a block: not a bias, and nothing inside attention or MLP."""
        if node.op_type != "Add" or any(self.index.is_constant(name) for name in node.input):
            return False
        return is_block(node.name.rpartition("/")[0])

    def _is_attention_product(self, node: onnx.NodeProto) -> bool:
        product = node.op_type == "MatMul" and not any(self.index.is_constant(name) for name in node.input)
        return product or (node.op_type == "Mul" and node.name.rpartition("/")[0].endswith(".attn"))

    def _type_of(self, node: onnx.NodeProto) -> int:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return self._type_of_scale(node)
        return self.half.onnx_type if node.output[0] in self._low else TensorProto.FLOAT

    def _type_of_scale(self, node: onnx.NodeProto) -> int:
        """The type that a Q/DQ node's scale, and with it its float side, gets: what its neighbours have."""
        scale = self.index.constant(node.input[1])
        # A scale below the normal numbers would lose bits, and with it everything that it scales.
        if scale is None or np.abs(scale).min() < np.finfo(np.float16).tiny or self.opset < HALF_SCALE_OPSET:
            return TensorProto.FLOAT
        if np.abs(scale).max() * _LARGEST_STEPS > self.half.largest:  # what comes out would overflow
            return TensorProto.FLOAT
        if node.op_type == "QuantizeLinear":
            return self._present.get(node.input[0], TensorProto.FLOAT)
        readers = self.index.read_by.get(node.output[0], [])
        return self.half.onnx_type if all(one.output[0] in self._low for one in readers) else TensorProto.FLOAT

    def _give_inputs(self, node: onnx.NodeProto, wanted: int) -> None:
        for position, name in enumerate(node.input):
            if name in self._present and (self._present[name] != wanted or self.index.is_constant(name)):
                node.input[position] = self._in_type(name, wanted, node)

    def _in_type(self, name: str, wanted: int, node: onnx.NodeProto) -> str:
        constant = self.index.constant(name)
        if constant is not None and wanted == TensorProto.FLOAT:
            return name
        if (name, wanted) in self._aliases:
            return self._aliases[name, wanted]
        result = f"{name}_{self.half.name if wanted == self.half.onnx_type else 'fp32'}"
        if constant is not None:
            rounded = np.clip(constant, -self.half.largest, self.half.largest).astype(self.half.dtype)
            self.graph.initializer.append(
                helper.make_tensor(result, self.half.onnx_type, rounded.shape, rounded.tobytes(), raw=True)
            )
        else:
            self._cast(name, result, wanted, node)
        self._aliases[name, wanted] = result
        return result

    def _name_outputs(self, node: onnx.NodeProto, kind: int) -> None:
        for position, name in enumerate(node.output):
            if self.types.get(name) != TensorProto.FLOAT or node.op_type == "Constant":
                continue
            if name in self._given_out and kind != self._outside:
                node.output[position] = f"{name}_inside"
                self._cast(node.output[position], name, self._outside, node)
                # Who reads it inside the graph finds it in the outer type, or as it was before the cast.
                self._present[name] = self._outside
                self._aliases[name, kind] = node.output[position]
            else:
                self._present[name] = kind

    def _cast(self, name: str, result: str, wanted: int, node: onnx.NodeProto) -> None:
        module = node.name.rpartition("/")[0]
        label = f"{module}/Cast_{result}" if module else f"Cast_{result}"
        self._nodes.append(helper.make_node("Cast", [name], [result], name=label, to=wanted))
