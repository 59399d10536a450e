"""A copy of a graph that gives out what leaves each of its parts."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from vitrify.graphs.index import GraphIndex, copy_of
from vitrify.graphs.parts import is_block, part_of, part_outputs

EMBEDDING = "embedding"
"""What enters the first block where no module gives it: the tokens, joined and with their positions."""

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
    model = _with_types(model)
    graph = model.graph
    types = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output, *graph.input)}
    given_out = {value.name for value in graph.output}
    probes: dict[str, str] = {}
    for part, name in _part_tensors(graph).items():
        kind = types.get(name)
        known = kind is not None and kind.elem_type != TensorProto.UNDEFINED
        if kind is not None and known and kind.elem_type not in _FLOATS:
            continue
        if name in given_out:
            probes[part] = name
            continue
        probe = name
        if kind is None or kind.elem_type != TensorProto.FLOAT:
            probe = f"vitrify.part/{part}"
            graph.node.append(helper.make_node("Cast", [name], [probe], to=TensorProto.FLOAT, name=f"{probe}/Cast"))
        output = helper.make_tensor_value_info(probe, TensorProto.FLOAT, None)
        if kind is not None and kind.HasField("shape"):
            output.type.tensor_type.shape.CopyFrom(kind.shape)
        graph.output.append(output)
        probes[part] = probe
    return model, probes


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
