"""A copy of a graph that gives out what leaves each of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
from onnx import TensorProto, helper

from vitrify.graphs import EMBEDDING, GraphIndex, Rewrite, copy_of, is_block, part_of, part_outputs

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def probed_model(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Makes the tensor that leaves each part of a network a further output, in float32.

    A runtime may fuse less around a tensor that is read once more: a probed graph can round differently.

    Args:
        model: An exported graph, or one that was rewritten since; nodes tell their part by their names.

    Returns:
        A copy, and a part's name to the name of its output, in the network's order. A part whose tensor is no floating
        point number has none. Nothing but the outputs and casts to float32 is added.
    """
    probes = Probes(_with_types(model))
    probes.apply()
    return probes.proto, probes.outputs


class Probes(Rewrite[tuple[str, str]]):
    """Gives out what leaves each part: a place is a part's name and its tensor.

    Attributes:
        outputs: The output of each part, once the graph is rewritten.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        super().__init__(proto)
        values = (*self.graph.value_info, *self.graph.output, *self.graph.input)
        self._types = {value.name: value.type.tensor_type for value in values}
        self.outputs: dict[str, str] = {}

    def pattern(self) -> Iterable[tuple[str, str]]:
        """The parts, in the network's order."""
        return _part_tensors(self.graph).items()

    def check(self, place: tuple[str, str]) -> str:
        """Only numbers with a fraction can be compared."""
        part, tensor = place
        kind = self._types[tensor].elem_type if tensor in self._types else TensorProto.UNDEFINED
        known = kind in (TensorProto.UNDEFINED, *_FLOATS)
        return "" if known else f"{part} gives out {TensorProto.DataType.Name(kind)} numbers, {tensor}"

    def rewrite(self, places: Sequence[tuple[str, str]]) -> None:
        """Outputs, and casts where the type is another one."""
        given_out = {value.name for value in self.graph.output}
        for part, tensor in places:
            kind, probe = self._types.get(tensor), tensor
            if tensor not in given_out:
                if kind is None or kind.elem_type != TensorProto.FLOAT:
                    probe = f"vitrify.part/{part}"
                    cast = helper.make_node("Cast", [tensor], [probe], to=TensorProto.FLOAT, name=f"{probe}/Cast")
                    self.graph.node.append(cast)
                output = helper.make_tensor_value_info(probe, TensorProto.FLOAT, None)
                if kind is not None and kind.HasField("shape"):
                    output.type.tensor_type.shape.CopyFrom(kind.shape)
                self.graph.output.append(output)
            self.outputs[part] = probe


def _with_types(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:  # operators of a domain that ONNX does not know
        return copy_of(model)


def _part_tensors(graph: onnx.GraphProto) -> dict[str, str]:
    parts = part_outputs(graph)
    first = next((part for part in parts if is_block(part)), None)
    entering = _entering(graph, first) if first else None
    if entering is None:
        return parts
    found: dict[str, str] = {}
    for part, name in parts.items():
        if part == first:
            found[EMBEDDING] = entering
        found[part] = name
    return found


def _entering(graph: onnx.GraphProto, block: str) -> str | None:
    """The tensor that nodes outside any module make for a block: the last, where there are several."""
    index = GraphIndex(graph)
    found = None
    for node in graph.node:
        if node.name.rpartition("/")[0] or node.op_type in _ON_SHAPES:
            continue
        for name in node.output:
            if any(part_of(reader.name) == block for reader in index.read_by.get(name, [])):
                found = name
    return found


_ON_SHAPES = ("Constant", "Shape", "Unsqueeze", "ConstantOfShape")
