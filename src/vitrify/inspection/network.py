"""What an ONNX graph consists of: shapes through the network, parameters and FLOPs, block by block."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx

from vitrify.graphs import eight_bit_products, node_flops, opset_of, part_of, shaped_model, tensor_shapes


@dataclass(frozen=True, kw_only=True)
class Part:
    """A block, or what stands before or after the blocks.

    Attributes:
        name: The PyTorch module, such as `blocks.3`.
        operators: How often each ONNX operator occurs.
        output_shape: Of the part's last tensor; the batch axis is None.
        parameters: Numbers in its weights.
        flops: Floating-point operations for one image, a multiply-add being two; matrix products and convolutions only,
            which are over 99% of a ViT.
    """

    name: str
    operators: dict[str, int]
    output_shape: tuple[int | None, ...]
    parameters: int
    flops: int


@dataclass(frozen=True, kw_only=True)
class Network:
    """An ONNX graph.

    Attributes:
        opset: Version of the operator set.
        ir_version: Version of the file format.
        size_bytes: Of the file.
        parts: In order.
        eight_bit_products: How many products are computed in 8 bits.
        saturating: Those of them, by node name, that could saturate on an x86 processor without VNNI.
    """

    opset: int
    ir_version: int
    size_bytes: int
    parts: tuple[Part, ...]
    eight_bit_products: int = 0
    saturating: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        """Floating-point operations for one image."""
        return sum(part.flops for part in self.parts)


def inspect_network(path: str | os.PathLike[str]) -> Network:
    """Reads a graph and adds it up.

    Args:
        path: An ONNX file; node names that begin with their module (`blocks.3.mlp/MatMul_1`) group it into parts.

    Raises:
        ArtifactError: No ONNX model, or shapes that contradict each other.
    """
    path = Path(path)
    proto, shaped = shaped_model(path)
    shapes = tensor_shapes(shaped.graph)
    weights = {w.name: math.prod(w.dims) for w in shaped.graph.initializer if w.dims and w.data_type in _FLOATS}
    operators: dict[str, Counter[str]] = {}
    outputs: dict[str, str] = {}
    parameters: Counter[str] = Counter()
    flops: Counter[str] = Counter()
    for node in shaped.graph.node:
        part = part_of(node.name)
        operators.setdefault(part, Counter())[node.op_type] += 1
        outputs[part] = node.output[0]
        parameters[part] += sum(weights.pop(name, 0) for name in node.input)  # a shared weight counts once
        flops[part] += node_flops(node, shapes)
    products = eight_bit_products(proto)
    return Network(
        eight_bit_products=len(products),
        saturating=tuple(name for name, proven in products.items() if not proven),
        opset=opset_of(proto),
        ir_version=proto.ir_version,
        size_bytes=path.stat().st_size,
        parts=tuple(
            Part(
                name=name,
                operators=dict(counts.most_common()),
                output_shape=(None, *shapes.get(outputs[name], (0,))[1:]),
                parameters=parameters[name],
                flops=flops[name],
            )
            for name, counts in operators.items()
        ),
    )


_FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.INT8,
)
