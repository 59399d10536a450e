"""What one pass through an ONNX graph costs: floating-point operations and bytes that have to move."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError

from vitrify.artifacts import Artifact
from vitrify.errors import ArtifactError


@dataclass(frozen=True, kw_only=True)
class GraphCost:
    """What a graph costs.

    Attributes:
        flops: Floating-point operations for one image, a multiply-add being two; matrix products and convolutions only,
            which are over 99% of a ViT.
        weight_bytes: Of all initializers, as the file stores them; read once a batch.
        io_bytes: Of the graph's inputs and outputs for one image.
    """

    flops: int
    weight_bytes: int
    io_bytes: int


def graph_cost(path: str | os.PathLike[str]) -> GraphCost:
    """Reads a graph and adds it up.

    Args:
        path: An ONNX file.

    Raises:
        ArtifactError: As `shaped_model`.
    """
    _, shaped = shaped_model(path)
    shapes = tensor_shapes(shaped.graph)
    ends = (*shaped.graph.input, *shaped.graph.output)
    return GraphCost(
        flops=sum(node_flops(node, shapes) for node in shaped.graph.node),
        weight_bytes=sum(math.prod(weight.dims) * _item_bytes(weight.data_type) for weight in shaped.graph.initializer),
        io_bytes=sum(math.prod(shapes[value.name]) * _item_bytes(value.type.tensor_type.elem_type) for value in ends),
    )


def shaped_model(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Reads an ONNX file, gives its batch axis the size 1, and infers every tensor's shape.

    Returns:
        The model, and the same with shapes.

    Raises:
        ArtifactError: No ONNX model, or shapes that contradict each other.
    """
    content = Artifact.open(path).content
    try:
        proto = onnx.load_from_string(content)
        _fix_batch(proto, 1)
        return proto, onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except (DecodeError, onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ArtifactError(
            f"{path} is no ONNX model that can be followed", got=str(error).partition("\n")[0]
        ) from error


def tensor_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor and initializer of a graph that `shaped_model` gave."""
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    return shapes | {weight.name: tuple(weight.dims) for weight in graph.initializer}


def node_flops(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Floating-point operations of a matrix product or a convolution, 0 for any other node."""
    if node.op_type not in ("MatMul", "Gemm", "Conv"):
        return 0
    out = math.prod(shapes[node.output[0]])
    weight = shapes[node.input[1]]
    if node.op_type == "Conv":
        return 2 * out * math.prod(weight[1:])
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 2 * out * weight[1 if transposed else 0]
    return 2 * out * shapes[node.input[0]][-1]


def _fix_batch(proto: onnx.ModelProto, batch: int) -> None:
    # Shape inference then gives numbers for every tensor.
    for value in (*proto.graph.input, *proto.graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        if axis.dim_param:
            axis.dim_value = batch
    proto.graph.ClearField("value_info")


def _item_bytes(data_type: int) -> int:
    if data_type == onnx.TensorProto.BFLOAT16:
        return 2
    if data_type in (onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.FLOAT8E5M2):
        return 1  # NumPy has no such type, and stands in a wider one
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)
