"""A copy of a graph that gives out what leaves each of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    probed = _with_types(model)
    return probed, {probe.part: probe.output for probe in Probes(probed).apply()}


@dataclass(kw_only=True)
class Probe:
    """What leaves a part.

    Attributes:
        part: Its name.
        tensor: The tensor.
        type: Its type, where that is known.
        output: The output that gives it out.
    """

    part: str
    tensor: str
    type: onnx.TypeProto.Tensor | None
    output: str


class Probes(Rewrite[Probe]):
    """Gives out what leaves each part."""

    def pattern(self) -> Iterator[Probe]:
        """The parts, in the network's order."""
        values = (*self.graph.value_info, *self.graph.output, *self.graph.input)
        types = {value.name: value.type.tensor_type for value in values}
        given_out = {value.name for value in self.graph.output}
        for part, name in _part_tensors(self.graph).items():
            kind = types.get(name)
            as_it_is = name in given_out or (kind is not None and kind.elem_type == TensorProto.FLOAT)
            yield Probe(part=part, tensor=name, type=kind, output=name if as_it_is else f"vitrify.part/{part}")

    def check(self, place: Probe) -> str:
        """Only numbers with a fraction can be compared."""
        if place.type is None or place.type.elem_type in (TensorProto.UNDEFINED, *_FLOATS):
            return ""
        return f"{place.part} gives out {TensorProto.DataType.Name(place.type.elem_type)} numbers, {place.tensor}"

    def rewrite(self, places: Sequence[Probe]) -> None:
        """Outputs, and casts where the type is another one."""
        given_out = {value.name for value in self.graph.output}
        for place in places:
            if place.tensor in given_out:
                continue
            probe = place.output
            if probe != place.tensor:
                cast = helper.make_node("Cast", [place.tensor], [probe], to=TensorProto.FLOAT, name=f"{probe}/Cast")
                self.graph.node.append(cast)
            output = helper.make_tensor_value_info(probe, TensorProto.FLOAT, None)
            if place.type is not None and place.type.HasField("shape"):
                output.type.tensor_type.shape.CopyFrom(place.type.shape)
            self.graph.output.append(output)


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
