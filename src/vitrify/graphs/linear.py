"""The linear layers of an exported ViT: where its time goes, and what quantisation is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from vitrify.graphs.index import GraphIndex
from vitrify.graphs.parts import is_block, part_of

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class LinearLayer:
    """A product of activations with a constant matrix.

    Attributes:
        node: Name of its MatMul or Gemm.
        module: The PyTorch module, such as `blocks.3.attn.qkv`.
        part: The block, such as `blocks.3`.
        activation: Tensor that it reads, `[..., inputs]`.
        weight: Tensor with its matrix.
        output: Tensor that it makes.
        inputs: Width of what it reads.
        outputs: Width of what it makes.
        transposed: Whether the matrix is stored `[outputs, inputs]`, as Gemm's may be, and not `[inputs, outputs]`.
    """

    node: str
    module: str
    part: str
    activation: str
    weight: str
    output: str
    inputs: int
    outputs: int
    transposed: bool

    @property
    def output_axis(self) -> int:
        """The axis of the stored matrix that runs over outputs."""
        return 0 if self.transposed else 1


def linear_layers(graph: onnx.GraphProto, *, blocks_only: bool = True) -> tuple[LinearLayer, ...]:
    """Finds every linear layer, in the graph's order.

    Args:
        graph: An exported graph with nodes named after their modules.
        blocks_only: Leave out the head, which is small and whose rounding goes into the answer undamped.
    """
    index = GraphIndex(graph)
    found = []
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in index.weights:
            continue
        weight = index.weights[node.input[1]]
        part = part_of(node.name)
        if len(weight.dims) != 2 or (blocks_only and not is_block(part)):
            continue
        transposed = any(a.name == "transB" and a.i == 1 for a in node.attribute)
        rows, columns = weight.dims
        found.append(
            LinearLayer(
                node=node.name,
                module=node.name.rpartition("/")[0],
                part=part,
                activation=node.input[0],
                weight=weight.name,
                output=node.output[0],
                inputs=columns if transposed else rows,
                outputs=rows if transposed else columns,
                transposed=transposed,
            )
        )
    return tuple(found)


def matrix(index: GraphIndex, layer: LinearLayer) -> FloatArray:
    """A layer's weights as `[inputs, outputs]` float32."""
    stored = numpy_helper.to_array(index.weights[layer.weight]).astype(np.float32)
    return stored.T if layer.transposed else stored


def replace_weight(index: GraphIndex, name: str, value: npt.NDArray[Any]) -> None:
    """Writes new numbers over an initializer, in its own type."""
    weight = index.weights[name]
    weight.CopyFrom(numpy_helper.from_array(value.astype(numpy_helper.to_array(weight).dtype), name))
