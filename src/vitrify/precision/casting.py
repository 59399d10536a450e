"""fp16 and bf16 as types in the graph, with casts where the type changes.

A strongly typed TensorRT, ONNX Runtime and OpenVINO all read the same file.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from vitrify.graphs import GraphIndex, drop_unread, opset_of
from vitrify.precision.half import CastPlan, HalfType
from vitrify.precision.observing import element_types

HALF_SCALE_OPSET = 19
"""Q/DQ scales may have 16 bits since opset 19."""

_LARGEST_STEPS = 448.0
"""The largest 8-bit number: E4M3's."""


def insert_casts(proto: onnx.ModelProto, half: HalfType, plan: CastPlan, *, narrow: bool = False) -> None:
    """Gives nodes their types in place.

    Args:
        proto: The graph that the plan was made for.
        half: The 16-bit type.
        plan: Which nodes compute in it.
        narrow: The graph takes and gives 16 bits too, and not fp32.
    """
    _Caster(proto, half, plan, narrow=narrow).run()


class _Caster:
    """Walks a graph once, in order, and knows the present type of every tensor."""

    def __init__(self, proto: onnx.ModelProto, half: HalfType, plan: CastPlan, *, narrow: bool) -> None:
        self.graph, self.half, self.plan = proto.graph, half, plan
        self.types = element_types(proto)
        self.index = GraphIndex(proto.graph)
        self.half_scales = opset_of(proto) >= HALF_SCALE_OPSET
        self.outside = half.onnx_type if narrow else TensorProto.FLOAT
        self.given_out = {value.name for value in proto.graph.output}
        self.present = {name: kind for name, kind in self.types.items() if kind == TensorProto.FLOAT}
        self.aliases: dict[tuple[str, int], str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        for value in (*self.graph.input, *self.graph.output):
            if self.types.get(value.name) == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = self.outside
        for value in self.graph.input:
            if value.name in self.present:
                self.present[value.name] = self.outside
        for node in list(self.graph.node):
            wanted = self._type_of(node)
            if node.op_type not in ("Constant", "Cast"):
                self._give_inputs(node, wanted)
            self.nodes.append(node)
            self._name_outputs(node, wanted)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        self.graph.ClearField("value_info")
        drop_unread(self.graph)

    def _type_of(self, node: onnx.NodeProto) -> int:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return self._type_of_scale(node)
        return self.half.onnx_type if node.name in self.plan.low else TensorProto.FLOAT

    def _type_of_scale(self, node: onnx.NodeProto) -> int:
        """The type that a Q/DQ node's scale, and with it its float side, gets: what its neighbours have."""
        scale = self.index.constant(node.input[1])
        # A scale below the normal numbers would lose bits, and with it everything that it scales.
        if scale is None or np.abs(scale).min() < np.finfo(np.float16).tiny or not self.half_scales:
            return TensorProto.FLOAT
        if np.abs(scale).max() * _LARGEST_STEPS > self.half.largest:  # what comes out would overflow
            return TensorProto.FLOAT
        if node.op_type == "QuantizeLinear":
            return self.present.get(node.input[0], TensorProto.FLOAT)
        readers = self.index.read_by.get(node.output[0], [])
        return self.half.onnx_type if all(reader.name in self.plan.low for reader in readers) else TensorProto.FLOAT

    def _give_inputs(self, node: onnx.NodeProto, wanted: int) -> None:
        for position, name in enumerate(node.input):
            if name in self.present and (self.present[name] != wanted or self.index.is_constant(name)):
                node.input[position] = self._in_type(name, wanted, node)

    def _in_type(self, name: str, wanted: int, node: onnx.NodeProto) -> str:
        constant = self.index.constant(name)
        if constant is not None and wanted == TensorProto.FLOAT:
            return name
        if (name, wanted) in self.aliases:
            return self.aliases[name, wanted]
        result = f"{name}_{self.half.name if wanted == self.half.onnx_type else 'fp32'}"
        if constant is not None:
            rounded = np.clip(constant, -self.half.largest, self.half.largest).astype(self.half.dtype)
            self.graph.initializer.append(
                helper.make_tensor(result, self.half.onnx_type, rounded.shape, rounded.tobytes(), raw=True)
            )
        else:
            self._cast(name, result, wanted, node)
        self.aliases[name, wanted] = result
        return result

    def _name_outputs(self, node: onnx.NodeProto, kind: int) -> None:
        for position, name in enumerate(node.output):
            if self.types.get(name) != TensorProto.FLOAT or node.op_type == "Constant":
                continue
            if name in self.given_out and kind != self.outside:
                node.output[position] = f"{name}_inside"
                self._cast(node.output[position], name, self.outside, node)
                # Who reads it inside the graph finds it in the outer type, or as it was before the cast.
                self.present[name] = self.outside
                self.aliases[name, kind] = node.output[position]
            else:
                self.present[name] = kind

    def _cast(self, name: str, result: str, wanted: int, node: onnx.NodeProto) -> None:
        module = node.name.rpartition("/")[0]
        label = f"{module}/Cast_{result}" if module else f"Cast_{result}"
        self.nodes.append(helper.make_node("Cast", [name], [result], name=label, to=wanted))
