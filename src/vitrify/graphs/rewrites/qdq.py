"""Q/DQ nodes around linear layers: int8 and fp8 that every runtime reads from the same file.

An activation gets one scale, a weight one an output channel, both symmetric: the one form that TensorRT, OpenVINO and
ONNX Runtime all turn into 8-bit products, with weights that give the same in these on every processor. Biases, residual
connections, softmax and norms stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from vitrify.graphs import FloatArray, LinearLayer, Rewrite, drop_unread, linear_layers, opset_of

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounded:
    """A layer's weights in 8 bits.

    Attributes:
        numbers: `[inputs, outputs]`, in the 8-bit type.
        scales: `[outputs]` float32, the size of a step.
    """

    numbers: npt.NDArray[np.generic]
    scales: FloatArray


def storable_scales(scales: npt.ArrayLike, scale_type: npt.DTypeLike) -> FloatArray:
    """Scales that a type holds exactly; below the normal numbers of fp16 they stay, and with them the node, in fp32."""
    exact = np.asarray(scales, np.float32)
    with np.errstate(over="ignore"):
        rounded = exact.astype(scale_type).astype(np.float32)
    return np.where(np.isfinite(rounded) & (exact >= np.finfo(np.float16).tiny), rounded, exact)


class QuantizedLayers(Rewrite[LinearLayer]):
    """Puts Q/DQ nodes around linear layers.

    Args:
        proto: The model.
        kind: The 8-bit type.
        ranges: For each activation, the largest magnitude that shall be representable.
        weights: By the name of their matrix, as `rounded_weights` gives them.
        scale_type: The float type that scales will have in the file.
        keep: Parts, such as `blocks.3`, that stay as they are.
        keep_attention: Whether the layers of attention stay as they are too.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        kind: QuantizedType,
        *,
        ranges: Mapping[str, float],
        weights: Mapping[str, Rounded],
        scale_type: npt.DTypeLike = np.float32,
        keep: Collection[str] = (),
        keep_attention: bool = False,
    ) -> None:
        super().__init__(proto)
        self.kind, self.ranges, self.weights, self.scale_type = kind, ranges, weights, scale_type
        self._keep, self._keep_attention = keep, keep_attention

    def pattern(self) -> Iterable[LinearLayer]:
        """The linear layers of the blocks."""
        return linear_layers(self.graph)

    def check(self, place: LinearLayer) -> str:
        """It is not to be kept, its range and weights are known, and the graph's opset has the type."""
        # BEiT multiplies in the attention module itself: its qkv has no module of its own.
        if place.part in self._keep or (self._keep_attention and "attn" in place.module.split(".")):
            return f"{place.node} is kept"
        if place.activation not in self.ranges or place.weight not in self.weights:
            return f"nothing is known of what {place.node} reads"
        if opset_of(self.proto) < self.kind.opset:
            return (
                f"{place.node}: opset {opset_of(self.proto)} has no {self.kind.name}, which came with {self.kind.opset}"
            )
        return ""

    def rewrite(self, places: Sequence[LinearLayer]) -> None:
        """One Q/DQ pair for each activation, one DQ for each matrix, just before who reads it first."""
        layers = {layer.output: layer for layer in places}
        dequantized: dict[str, str] = {}
        nodes: list[onnx.NodeProto] = []
        for node in self.graph.node:
            layer = layers.get(node.output[0])
            if layer is not None:
                if layer.activation not in dequantized:
                    dequantized[layer.activation] = self._around_activation(layer, nodes)
                node.input[0] = dequantized[layer.activation]
                node.input[1] = self._before_weight(layer, nodes)
            nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        if places:
            drop_unread(self.graph)

    def _around_activation(self, layer: LinearLayer, nodes: list[onnx.NodeProto]) -> str:
        name = layer.activation
        top = max(self.ranges[name], float(np.finfo(np.float16).tiny))
        scale, zero, quantized, result = (
            f"{name}_{what}" for what in ("scale", "zero_point", "quantized", "dequantized")
        )
        step = storable_scales(top / self.kind.largest, self.scale_type)
        self.graph.initializer.append(numpy_helper.from_array(step, scale))
        self.graph.initializer.append(helper.make_tensor(zero, self.kind.onnx_type, [], [0]))
        for operator, given, made in (("QuantizeLinear", name, quantized), ("DequantizeLinear", quantized, result)):
            nodes.append(helper.make_node(operator, [given, scale, zero], [made], name=f"{layer.module}/{operator}"))
        return result

    def _before_weight(self, layer: LinearLayer, nodes: list[onnx.NodeProto]) -> str:
        stored, scale, zero, result = (
            f"{layer.weight}_{what}" for what in ("quantized", "scale", "zero_point", "dequantized")
        )
        if any(weight.name == stored for weight in self.graph.initializer):
            return result  # another layer has the same matrix
        rounded, kind = self.weights[layer.weight], self.kind.onnx_type
        numbers = np.ascontiguousarray(rounded.numbers.T if layer.transposed else rounded.numbers)
        count = len(rounded.scales)
        self.graph.initializer.append(helper.make_tensor(stored, kind, numbers.shape, numbers.tobytes(), raw=True))
        self.graph.initializer.append(numpy_helper.from_array(rounded.scales, scale))
        self.graph.initializer.append(helper.make_tensor(zero, kind, [count], bytes(count), raw=True))
        # The product is in the name, as a module may multiply twice.
        name = f"{layer.module}/DequantizeLinear_{layer.node.removeprefix(f'{layer.module}/')}_weight"
        nodes.append(
            helper.make_node("DequantizeLinear", [stored, scale, zero], [result], name=name, axis=layer.output_axis)
        )
        return result
