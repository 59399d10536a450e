"""A smaller graph that computes the same, and the checks on its form."""

from __future__ import annotations

import collections

import onnx
import onnxslim
from onnx import numpy_helper

from vitrify.conversion.class_token import keep_class_token
from vitrify.conversion.exporters import OPSET
from vitrify.errors import ArtifactError
from vitrify.graphs import drop_unread
from vitrify.spec import ModelSpec

_LAYER_NORMALIZATION_OPSET = 17


def simplify(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Folds constants and removes dead nodes with onnxslim, and drops what the exporter noted about itself.

    Where the head reads the class token alone, the last block computes no other.

    Nodes are named after their module, `blocks.3.attn.qkv/MatMul_41`, so that a profile, an audit or a rewrite can say
    which part of the network it speaks of.
    """
    _name_after_modules(proto)
    slim: onnx.ModelProto = onnxslim.slim(proto)
    _settle_known_sizes(slim.graph)
    drop_unread(slim.graph)
    slim = keep_class_token(slim)
    for holder in (*slim.graph.node, *slim.graph.input, *slim.graph.output, *slim.graph.value_info):
        holder.ClearField("metadata_props")
    for node in slim.graph.node:
        node.ClearField("doc_string")
    slim.graph.ClearField("metadata_props")
    slim.ClearField("metadata_props")
    return slim


def _settle_known_sizes(graph: onnx.GraphProto) -> None:
    """Makes a Concat of the Where that the tracer writes for the -1 in `expand`, where its condition is known.

    TensorRT 8.5 takes few operators on shapes, and a constant of truth values is no usual one.
    """
    known = {weight.name: numpy_helper.to_array(weight).reshape(-1) for weight in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    for node in [node for node in graph.node if node.op_type == "Where"]:
        condition, chosen, other = node.input
        sizes = made_by.get(other)
        if sizes is None or sizes.op_type != "Concat" or not {condition, chosen} <= known.keys():
            continue
        if not len(sizes.input) == len(known[condition]) == len(known[chosen]):
            continue  # a piece of several numbers
        pieces = list(sizes.input)
        for axis in known[condition].nonzero()[0]:
            pieces[axis] = f"{node.output[0]}_{axis}"
            graph.initializer.append(numpy_helper.from_array(known[chosen][axis : axis + 1], pieces[axis]))
        settled = onnx.helper.make_node(
            "Concat", pieces, node.output, name=node.name.replace("Where", "Concat"), axis=0
        )
        node.CopyFrom(settled)
        read = {name for reader in graph.node for name in reader.input}
        if other not in read:
            graph.node.remove(sizes)
        for weight in [w for w in graph.initializer if w.name in (condition, chosen) and w.name not in read]:
            graph.initializer.remove(weight)


def _name_after_modules(proto: onnx.ModelProto) -> None:
    for number, node in enumerate(proto.graph.node):
        module = _module_of(node)
        node.name = f"{module}/{node.op_type}_{number}" if module else f"{node.op_type}_{number}"


def _module_of(node: onnx.NodeProto) -> str:
    # dynamo notes ": timm.….VisionTransformer/blocks.0: timm.….Block/blocks.0.attn: timm.….Attention/linear: aten…";
    # the tracer names nodes "/blocks/blocks.0/attn/qkv/MatMul".
    for entry in node.metadata_props:
        if entry.key == "namespace":
            modules = [part.partition(": ")[0] for part in entry.value.split("/")[:-1]]
            last = modules[-1].strip(": ") if modules else ""
            return "" if last.startswith("_empty_nn_module") else last
    parts = [part for part in node.name.split("/")[1:-1] if part]
    path: list[str] = []
    for part in parts:
        # "/blocks/blocks.0" says "blocks" twice.
        path = [part] if path and part.startswith(path[-1] + ".") else [*path, part]
    return ".".join(path)


def check_form(proto: onnx.ModelProto, spec: ModelSpec, *, layer_norms: int, opset: int = OPSET) -> None:
    """Holds a graph to what every later step and runtime relies on.

    Args:
        proto: The graph.
        spec: Gives tensor names, the input size and the number of classes.
        layer_norms: How many LayerNorm modules the PyTorch model runs.
        opset: What was asked for; before 17 there is no LayerNormalization, and none may be left.

    Raises:
        ArtifactError: Another opset, other names or shapes, a fixed batch axis, or a LayerNorm taken apart.
    """
    found = {
        "opset": [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")],
        "inputs": [_shape(value) for value in proto.graph.input],
        "outputs": [_shape(value) for value in proto.graph.output],
        "LayerNormalization nodes": collections.Counter(n.op_type for n in proto.graph.node)["LayerNormalization"],
    }
    wanted = {
        "opset": [opset],
        "inputs": [(spec.input.name, ("batch", *spec.input_shape))],
        "outputs": [(spec.output.name, ("batch", len(spec.labels)))],
        "LayerNormalization nodes": layer_norms if opset >= _LAYER_NORMALIZATION_OPSET else 0,
    }
    for name, want in wanted.items():
        if found[name] != want:
            raise ArtifactError(f"the exported graph has the wrong {name}", got=found[name], expected=want)


def _shape(value: onnx.ValueInfoProto) -> tuple[str, tuple[str | int, ...]]:
    return value.name, tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
