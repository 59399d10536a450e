"""A smaller graph that computes the same, and the checks on its form."""

from __future__ import annotations

import collections

import onnx
import onnxslim

from vitrify.conversion.exporters import OPSET
from vitrify.errors import ArtifactError
from vitrify.graphs import drop_unread
from vitrify.graphs.rewrites.class_token import ClassToken
from vitrify.graphs.rewrites.known_sizes import KnownSizes
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
    KnownSizes(slim).apply()
    drop_unread(slim.graph)
    ClassToken(slim).apply()
    for holder in (*slim.graph.node, *slim.graph.input, *slim.graph.output, *slim.graph.value_info):
        holder.ClearField("metadata_props")
    for node in slim.graph.node:
        node.ClearField("doc_string")
    slim.graph.ClearField("metadata_props")
    slim.ClearField("metadata_props")
    return slim


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
