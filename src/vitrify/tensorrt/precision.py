"""The arithmetic of an engine: what it will be, and what TensorRT 8 holds in fp32 where a flag permits fp16.

LayerNorm squares what it normalises, and a ViT's residual stream reaches several hundred: the square does not fit into
fp16's 65,504, and its mean loses what is left. A softmax's sum of exponentials has the same trouble. Where the graph
says the types this is said in the graph; TensorRT 8 takes it as a precision of each layer.
"""

from __future__ import annotations

from typing import Any

from vitrify.artifacts import EnginePrecision
from vitrify.errors import OptionError
from vitrify.spec import Precision
from vitrify.tensorrt.releases import Release, TensorRt

_ALWAYS = ("SOFTMAX", "NORMALIZATION")
_OF_A_NORM = ("ELEMENTWISE", "UNARY", "REDUCE", "SCALE")
_NORM_REACH = 8
"""Mean, subtract, square, mean, add epsilon, square root, divide: what one LayerNorm is taken apart into."""


def resolve_precision(choice: EnginePrecision, graph: Precision, *, release: Release, name: str) -> Precision:
    """What an engine's arithmetic will be.

    Args:
        choice: What was asked for.
        graph: What the graph's own types are.
        release: What it can do.
        name: Its name and version, for the message.

    Raises:
        OptionError: The graph says otherwise, or the release cannot make it by flags.
    """
    if choice in ("auto", graph):
        return graph
    if choice not in release.precisions:
        hint = f"it computes in {', '.join(release.precisions)}"
    elif choice == "fp32":
        hint = "vitrify export CHECKPOINT -o MODEL.onnx, and build that"
    else:
        hint = f"vitrify quantize MODEL.onnx --to {choice} -o MODEL.{choice}.onnx, and build that"
    if release.strongly_typed:
        raise OptionError(
            f"{name} takes the types from the graph, and this graph is {graph}",
            got=f"precision {choice}",
            expected=f"auto or {graph}",
            hint=hint,
        )
    if graph == "fp32" and choice == "fp16":
        return "fp16"
    raise OptionError(
        f"{name} cannot turn a graph in {graph} into {choice}",
        got=f"precision {choice}",
        expected="auto, or fp16 for a graph in fp32",
        hint=hint,
    )


def pin_to_fp32(trt: TensorRt, network: Any) -> tuple[str, ...]:
    """Holds LayerNorm, whole or taken apart, and softmax in fp32.

    Args:
        trt: The binding.
        network: Parsed, weakly typed.

    Returns:
        The names of the layers that were pinned.
    """
    float32 = trt.module.DataType.FLOAT
    pinned = layers_to_pin(trt, network)
    for layer in pinned:
        layer.precision = float32
        for index in range(layer.num_outputs):
            layer.set_output_type(index, float32)
    return tuple(str(layer.name) for layer in pinned)


def layers_to_pin(trt: TensorRt, network: Any) -> list[Any]:
    """The layers of LayerNorms and softmaxes that compute in floating point, each once."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    chosen = {str(layer.name): layer for layer in (*_by_kind(trt, layers), *_taken_apart(trt, layers))}
    return [layer for layer in chosen.values() if _is_float(trt, layer)]


def _is_float(trt: TensorRt, layer: Any) -> bool:
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    floats = (trt.module.DataType.FLOAT, trt.module.DataType.HALF)
    return all(output.dtype in floats and not output.is_shape_tensor for output in outputs)


def _by_kind(trt: TensorRt, layers: list[Any]) -> list[Any]:
    kinds = [kind for name in _ALWAYS if (kind := trt.flag("LayerType", name)) is not None]
    return [layer for layer in layers if layer.type in kinds]


def _taken_apart(trt: TensorRt, layers: list[Any]) -> list[Any]:
    """The layers of each decomposed LayerNorm: from a mean on, up to the division by a square root."""
    kinds = [trt.flag("LayerType", name) for name in _OF_A_NORM]
    readers: dict[str, list[Any]] = {}
    for layer in layers:
        for name in _inputs(layer):
            readers.setdefault(name, []).append(layer)
    found: dict[str, Any] = {}
    for mean in layers:
        if mean.type != trt.flag("LayerType", "REDUCE"):
            continue
        frontier, inside = [mean], {str(mean.name): mean}
        for _ in range(_NORM_REACH):
            frontier = [
                reader
                for layer in frontier
                if not _divides(trt, layer)  # what comes after the division is no part of the norm
                for name in _outputs(layer)
                for reader in readers.get(name, ())
                if reader.type in kinds and str(reader.name) not in inside
            ]
            inside |= {str(layer.name): layer for layer in frontier}
        if sum(layer.type == trt.flag("LayerType", "REDUCE") for layer in inside.values()) >= 2:
            found |= inside
    return list(found.values())


def _divides(trt: TensorRt, layer: Any) -> bool:
    if layer.type != trt.flag("LayerType", "ELEMENTWISE"):
        return False
    # The parser gives the base class; its `op` is reached through the class that the type stands for.
    base = layer.__class__
    layer.__class__ = trt.module.IElementWiseLayer
    try:
        return bool(layer.op == trt.module.ElementWiseOperation.DIV)
    finally:
        layer.__class__ = base


def _inputs(layer: Any) -> list[str]:
    tensors = [layer.get_input(index) for index in range(layer.num_inputs)]
    return [str(tensor.name) for tensor in tensors if tensor is not None]


def _outputs(layer: Any) -> list[str]:
    return [str(layer.get_output(index).name) for index in range(layer.num_outputs)]
