"""Q/DQ nodes around linear layers: int8 and fp8 that every runtime reads from the same file.

An activation gets one scale, a weight one an output channel, both symmetric: the one form that TensorRT, OpenVINO and
ONNX Runtime all turn into 8-bit products, with weights that give the same in these on every processor. Biases, residual
connections, softmax and norms stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from vitrify.graphs import GraphIndex, drop_unread
from vitrify.precision.linear import FloatArray, LinearLayer, matrix
from vitrify.precision.rounding import Rounded, round_weights, widened_scales
from vitrify.progress import SILENT, Progress

INT8_OPSET = 13
"""DequantizeLinear has an axis, and with it a scale a channel, since opset 13."""

FP8_OPSET = 19
"""QuantizeLinear makes FLOAT8E4M3FN since opset 19."""


@dataclass(frozen=True, kw_only=True)
class QuantizedType:
    """An 8-bit type.

    Attributes:
        name: `int8` or `fp8`.
        onnx_type: Of the numbers.
        dtype: NumPy's type of them.
        largest: Largest number that is used: 127 for int8, which leaves -128 out so that zero is the middle; 448 for
            E4M3 (Micikevicius et al., "FP8 formats for deep learning", arXiv:2209.05433).
        opset: The first that has it in QuantizeLinear.
    """

    name: str
    onnx_type: int
    dtype: npt.DTypeLike
    largest: float
    opset: int

    def quantize(self, values: FloatArray, scale: FloatArray | float) -> npt.NDArray[np.generic]:
        """`values / scale` in this type, as QuantizeLinear does it: to the nearest, ties to even, clipped."""
        scaled = np.clip(np.asarray(values, np.float32) / scale, -self.largest, self.largest)
        return np.asarray((np.rint(scaled) if self.name == "int8" else scaled).astype(self.dtype))

    def rounded(self, values: FloatArray, scale: FloatArray | float) -> FloatArray:
        """What is left of `values` after quantising and back, float32."""
        return np.asarray(self.quantize(values, scale).astype(np.float32) * scale, np.float32)


INT8 = QuantizedType(name="int8", onnx_type=onnx.TensorProto.INT8, dtype=np.int8, largest=127.0, opset=INT8_OPSET)
FP8 = QuantizedType(
    name="fp8",
    onnx_type=onnx.TensorProto.FLOAT8E4M3FN,
    dtype=ml_dtypes.float8_e4m3fn,
    largest=448.0,
    opset=FP8_OPSET,
)


def weight_scales(weights: FloatArray, kind: QuantizedType) -> FloatArray:
    """A scale for each output of `[inputs, outputs]` weights, `[outputs]` float32: the largest weight fits just."""
    largest = np.abs(weights).max(axis=0)
    return np.asarray(np.where(largest > 0, largest, 1) / kind.largest, np.float32)


def rounded_weights(
    graph: onnx.GraphProto,
    layers: Sequence[LinearLayer],
    kind: QuantizedType,
    *,
    rows: Mapping[str, FloatArray] | None = None,
    scale_type: npt.DTypeLike = np.float32,
    progress: Progress = SILENT,
) -> dict[str, Rounded]:
    """The weights of layers in 8 bits, by the name of their matrix; int8 ones cannot saturate on any x86 processor.

    Args:
        graph: Has the layers.
        layers: Which.
        kind: To what.
        rows: For each activation that they read, a sample of its rows, `[N, inputs]`.
        scale_type: The float type that scales will have in the file. They are rounded to it before anything is
            quantised by them: rounded afterwards, to bf16 say, every weight would come out up to 0.2% off.
        progress: Told of each layer.
    """
    index = GraphIndex(graph)
    rounded: dict[str, Rounded] = {}
    for layer in progress.track(layers, label="rounding weights"):
        if layer.weight in rounded:
            continue  # another layer has the same matrix
        weights = matrix(index, layer)
        scales = weight_scales(weights, kind)
        if kind is not INT8:
            scales = _storable(scales, scale_type)
            rounded[layer.weight] = Rounded(numbers=kind.quantize(weights, scales), scales=scales)
            continue
        seen = None if rows is None else rows[layer.activation]
        scales = _storable(widened_scales(weights, scales, seen), scale_type)
        rounded[layer.weight] = Rounded(numbers=round_weights(weights, scales, seen), scales=scales)
    return rounded


def insert_qdq(
    proto: onnx.ModelProto,
    layers: Iterable[LinearLayer],
    ranges: Mapping[str, float],
    *,
    weights: Mapping[str, Rounded],
    kind: QuantizedType,
    scale_type: npt.DTypeLike = np.float32,
) -> None:
    """Quantises layers in place.

    Args:
        proto: A graph of opset `kind.opset` or newer.
        layers: Which.
        ranges: For each activation that they read, the largest magnitude that shall be representable.
        weights: Of each layer, as `rounded_weights` gives them.
        kind: To what.
        scale_type: The float type that scales will have in the file.
    """
    graph = proto.graph
    index = GraphIndex(graph)
    order = {node.name: number for number, node in enumerate(graph.node)}
    before: dict[int, list[onnx.NodeProto]] = {}
    dequantized: dict[str, str] = {}
    by_node = {layer.node: layer for layer in layers}
    for node in graph.node:
        layer = by_node.get(node.name)
        if layer is None:
            continue
        place = before.setdefault(order[node.name], [])
        if layer.activation not in dequantized:
            top = max(ranges[layer.activation], float(np.finfo(np.float16).tiny))
            scale = _storable(top / kind.largest, scale_type)
            dequantized[layer.activation] = _around_activation(graph, layer, scale, kind, place)
        node.input[0] = dequantized[layer.activation]
        node.input[1] = _before_weight(index, layer, weights[layer.weight], kind, place)
    nodes = list(graph.node)
    del graph.node[:]
    for number, node in enumerate(nodes):
        graph.node.extend(before.get(number, ()))
        graph.node.append(node)
    drop_unread(graph)


def _storable(scales: npt.ArrayLike, scale_type: npt.DTypeLike) -> FloatArray:
    """Scales that a type holds exactly; below the normal numbers of fp16 they stay, and with them the node, in fp32."""
    exact = np.asarray(scales, np.float32)
    with np.errstate(over="ignore"):
        rounded = exact.astype(scale_type).astype(np.float32)
    return np.where(np.isfinite(rounded) & (exact >= np.finfo(np.float16).tiny), rounded, exact)


def _around_activation(
    graph: onnx.GraphProto, layer: LinearLayer, step: FloatArray, kind: QuantizedType, place: list[onnx.NodeProto]
) -> str:
    name = layer.activation
    scale, zero = f"{name}_scale", f"{name}_zero_point"
    graph.initializer.append(numpy_helper.from_array(step, scale))
    graph.initializer.append(helper.make_tensor(zero, kind.onnx_type, [], [0]))
    quantized, result = f"{name}_quantized", f"{name}_dequantized"
    place.append(
        helper.make_node("QuantizeLinear", [name, scale, zero], [quantized], name=f"{layer.module}/QuantizeLinear")
    )
    place.append(
        helper.make_node(
            "DequantizeLinear", [quantized, scale, zero], [result], name=f"{layer.module}/DequantizeLinear"
        )
    )
    return result


def _before_weight(
    index: GraphIndex, layer: LinearLayer, rounded: Rounded, kind: QuantizedType, place: list[onnx.NodeProto]
) -> str:
    name = layer.weight
    result = f"{name}_dequantized"
    if any(weight.name == f"{name}_quantized" for weight in index.graph.initializer):
        return result  # another layer has the same matrix
    scales = rounded.scales
    stored = np.ascontiguousarray(rounded.numbers.T if layer.transposed else rounded.numbers)
    raw = helper.make_tensor(f"{name}_quantized", kind.onnx_type, stored.shape, stored.tobytes(), raw=True)
    index.graph.initializer.append(raw)
    index.graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
    index.graph.initializer.append(
        helper.make_tensor(f"{name}_zero_point", kind.onnx_type, [len(scales)], bytes(len(scales)), raw=True)
    )
    place.append(
        helper.make_node(
            "DequantizeLinear",
            [raw.name, f"{name}_scale", f"{name}_zero_point"],
            [result],
            name=_name(layer, "DequantizeLinear", "_weight"),
            axis=layer.output_axis,
        )
    )
    return result


def _name(layer: LinearLayer, operator: str, suffix: str = "") -> str:
    """A name in the layer's module, and one of its own where a module multiplies twice."""
    product = layer.node.removeprefix(f"{layer.module}/")
    return f"{layer.module}/{operator}_{product}{suffix}"
