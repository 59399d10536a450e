"""Can an 8-bit product saturate on a processor without VNNI? A proof on the weights alone.

Where an x86 processor has neither VNNI nor AMX, ONNX Runtime and OpenVINO multiply 8-bit activations, 0 to 255, by
8-bit weights with VPMADDUBSW. It adds the products of two neighbouring inputs in 16 bits, and saturates (Intel,
"Intrinsics guide", _mm256_maddubs_epi16). No sum leaves 16 bits where in each pair of weights (2k, 2k + 1) of an output
the positive parts add up to at most 128, and the negative parts too: 255 * 128 = 32640 <= 32767. Signed activations are
shifted by 128 first, so that the same holds for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx

from vitrify.graphs.index import GraphIndex

PAIR_LIMIT = 128
"""What the weights of one sign in a pair may add up to."""

_FLOAT_FORM = ("MatMul", "Gemm", "Conv")
_INTEGER_FORM = {
    "MatMulInteger": 1,
    "ConvInteger": 1,
    "DynamicQuantizeMatMul": 1,
    "MatMulIntegerToFloat": 1,
    "QLinearMatMul": 3,
    "QLinearConv": 3,
    "QGemm": 3,
    "QAttention": 1,
}
"""ONNX's operators on integers, and ONNX Runtime's (com.microsoft), with the input that holds the weights."""


def saturating_pairs(weights: npt.NDArray[np.integer]) -> int:
    """How many pairs of neighbouring inputs could saturate.

    Args:
        weights: `[inputs, outputs]`, 8-bit numbers.
    """
    padded = np.pad(weights.astype(np.int16), [(0, len(weights) % 2), (0, 0)])
    first, second = padded[0::2], padded[1::2]
    most = np.maximum(first, 0) + np.maximum(second, 0)
    least = np.minimum(first, 0) + np.minimum(second, 0)
    return int(((most > PAIR_LIMIT) | (least < -PAIR_LIMIT)).sum())


def eight_bit_products(proto: onnx.ModelProto) -> dict[str, bool]:
    """The products in 8 bits by node name, and whether it is proven that they cannot saturate.

    A product computes in 8 bits where both of its inputs come from DequantizeLinear, or where its operator is one on
    integers. What cannot be looked up, such as weights that are computed, counts as unproven.
    """
    found: dict[str, bool] = {}
    for graph in (*_graphs(proto.graph), *proto.functions):
        for name, proven in _products(graph):
            found[name] = proven and found.get(name, True)
    return found


def saturating_products(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Products in 8 bits for which nothing proves that they cannot saturate, by node name."""
    return tuple(name for name, proven in eight_bit_products(proto).items() if not proven)


def integer_products(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the nodes whose operator is one on integers: they compute in 8 bits whatever a runtime is asked for."""
    return tuple(
        node.name or node.op_type
        for graph in (*_graphs(proto.graph), *proto.functions)
        for node in graph.node
        if node.op_type in _INTEGER_FORM
    )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _products(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[tuple[str, bool]]:
    # A function has no weights of its own: whatever it multiplies in 8 bits stays unproven.
    index = GraphIndex(graph if isinstance(graph, onnx.GraphProto) else onnx.GraphProto(node=graph.node))
    for node in index.graph.node:
        if node.op_type in _INTEGER_FORM:
            weights, along_inputs = index.constant(node.input[_INTEGER_FORM[node.op_type]]), 0
            if any(a.name == "transB" and a.i for a in node.attribute):
                along_inputs = 1
        elif node.op_type in _FLOAT_FORM:
            makers = [index.made_by.get(name) for name in node.input[:2]]
            if any(maker is None or maker.op_type != "DequantizeLinear" for maker in makers):
                continue
            assert makers[1] is not None
            weights = index.constant(makers[1].input[0])
            along_inputs = int(any(a.name == "transB" and a.i for a in node.attribute))
        else:
            continue
        if weights is not None and not np.issubdtype(weights.dtype, np.integer):
            continue  # floats of 8 bits
        known = weights is not None and weights.dtype == np.int8
        yield node.name or node.op_type, known and _is_proven(weights, along_inputs)  # type: ignore[arg-type]


def _is_proven(weights: npt.NDArray[np.generic], along_inputs: int) -> bool:
    if weights.ndim == 2:
        return not saturating_pairs(weights.T if along_inputs else weights)  # type: ignore[arg-type]
    # In which order a convolution or a stack of matrices is multiplied is the library's affair: no two may add up.
    return int(np.abs(weights.astype(np.int16)).max(initial=0)) <= PAIR_LIMIT // 2
