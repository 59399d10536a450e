"""Did the build give what was asked for? The type of every layer and the fused attention blocks, read from the engine.

Two sources say the same. Where there is a GPU, the engine inspector's JSON; its form changed in TensorRT 11 (one field
`Format/Datatype` became two, `Bindings` became `I/O Tensors`). Without one, no engine can be loaded, and the list that
the builder itself logs is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from vitrify.artifacts import Audit, AuditedLayer
from vitrify.artifacts.manifest import ATTENTION
from vitrify.errors import GateError
from vitrify.spec import Precision
from vitrify.tensorrt.watching import LAYERS_HEADING

_TYPES = {
    "fp32": ("float", "fp32"),
    "fp16": ("half", "fp16"),
    "bf16": ("bf16", "bfloat16"),
    "fp8": ("fp8",),
    "int8": ("int8",),
    "int4": ("int4",),
}
"""Our names and what the inspector writes for them, in either form: `Half`, or `… FP16 format (kLINEAR)`."""

_MATRIX_KINDS = ("gemm", "matrix", "conv", "correlation", "fullyconnected", "fully_connected")
_MATRIX_NAMES = re.compile(r"gemm|_Fc|MatMul|/Conv", re.IGNORECASE)
_OPAQUE = ("myelin", "foreignnode")

_WEIGHTS_OUTWEIGH = 64 << 20
"""Bytes of weights beside which a plan's own code does not count."""


def audit_from_inspector(text: str, *, asked: Precision, attention_blocks: int) -> Audit:
    """Reads `EngineInspector.get_engine_information(JSON)` of any release.

    Args:
        text: JSON; layers are objects where the profiling verbosity was DETAILED, else names alone.
        asked: The precision that was asked for.
        attention_blocks: Attention blocks of the network.
    """
    try:
        data = json.loads(text, strict=False)  # names may hold control characters
    except ValueError:
        return _audit("none", (), asked, attention_blocks)
    layers = [layer for layer in data.get("Layers", ()) if isinstance(layer, dict)]
    return _audit("inspector", [_from_json(layer) for layer in layers], asked, attention_blocks)


def audit_from_log(text: str, *, asked: Precision, attention_blocks: int) -> Audit:
    """Reads the list of layers that the builder logs.

    Args:
        text: A line a layer, `Name: …, LayerType: …, Inputs: [ { … }], Constants: […], Outputs: […], …`; empty where
            the builder logged none.
        asked: The precision that was asked for.
        attention_blocks: Attention blocks of the network.
    """
    lines = [line for line in text.removeprefix(LAYERS_HEADING).splitlines() if line.startswith("Name: ")]
    return _audit("build log" if lines else "none", [_from_line(line) for line in lines], asked, attention_blocks)


def require_asked(audit: Audit, *, plan_bytes: int = 0, fp32_bytes: int = 0, profiles: int = 1) -> None:
    """Refuses a build that fell back.

    Args:
        audit: What the layers say.
        plan_bytes: Of the plan.
        fp32_bytes: Of the graph with its weights, where they are fp32; 0 where they are not.
        profiles: Of the engine. Each may lay the weights out in its own way and bring a copy, with kernels of its own.

    Raises:
        GateError: Half of the matrix layers or more do not have the precision that was asked for. Where layers do not
            tell their types, the weights do: in 16 bits they take half.
    """
    if audit.asked == "fp32":
        return
    # In 16 bits, the copies are at most half of the graph each; the other quarter is left for kernels. In fp32 they are
    # that and more, unless profiles share them: such a plan passes here, and has to pass the comparison.
    if audit.opaque and fp32_bytes >= _WEIGHTS_OUTWEIGH and plan_bytes > 0.75 * fp32_bytes * profiles:
        raise GateError(
            f"TensorRT did not build what was asked for: {audit.asked}",
            got=f"a plan of {plan_bytes / 1e6:,.0f} MB from a graph of {fp32_bytes / 1e6:,.0f} MB in fp32",
            expected="half of that, or little more" + (", for each profile" if profiles > 1 else ""),
            hint="the GPU may lack fast kernels in this precision: build with --precision fp32",
        )
    matrices = [layer for layer in audit.layers if layer.matrix]
    missing = [layer for layer in matrices if audit.asked not in layer.reads]
    # Beside layers that do not tell, those that do are too few to judge by: an image's first convolution, say.
    if matrices and not audit.opaque and len(missing) * 2 >= len(matrices):
        found = ", ".join(f"{count} in {kind}" for kind, count in sorted(audit.matrix_types.items()))
        raise GateError(
            f"TensorRT did not build what was asked for: {audit.asked}",
            got=f"of {len(matrices)} layers that multiply matrices, {found}",
            expected=f"most of them in {audit.asked}",
            hint=f"give a graph whose own types are {audit.asked}: vitrify quantize MODEL.onnx --to {audit.asked}",
        )


def _audit(
    source: Literal["inspector", "build log", "none"],
    layers: Iterable[AuditedLayer],
    asked: Precision,
    attention_blocks: int,
) -> Audit:
    layers = tuple(layers)
    fused = sum(layer.attention for layer in layers)
    opaque = sum(_is_opaque(layer.kind, layer.name) for layer in layers)
    shortfalls = [
        f"{layer.name} multiplies in {' and '.join(layer.reads)}"
        for layer in layers
        if layer.matrix and asked not in layer.reads
    ]
    if fused < attention_blocks and not opaque and source != "none":
        shortfalls.append(f"{attention_blocks - fused} of {attention_blocks} attention blocks are not fused")
    return Audit(
        source=source,
        asked=asked,
        layers=layers,
        attention_blocks=attention_blocks,
        fused_attention=fused,
        opaque=opaque,
        shortfalls=tuple(shortfalls),
    )


def _from_json(layer: Mapping[str, Any]) -> AuditedLayer:
    name, kind = str(layer.get("Name", "")), str(layer.get("LayerType", ""))
    constants = [*layer.get("Constants", ()), *(layer[key] for key in ("Weights", "Bias") if key in layer)]
    onnx = tuple(re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(layer.get("Metadata", ""))))
    return _layer(
        name,
        kind,
        reads=[_type_of_tensor(tensor) for tensor in (*layer.get("Inputs", ()), *constants)],
        writes=[_type_of_tensor(tensor) for tensor in layer.get("Outputs", ())],
        onnx=onnx,
    )


def _from_line(line: str) -> AuditedLayer:
    def part(begin: str, end: str) -> str:
        return line.partition(begin)[2].partition(end)[0]

    def types(text: str) -> list[str]:
        return [_type_of(word) for word in re.findall(r"Datatype: (\w+)", text)]

    return _layer(
        part("Name: ", ", LayerType: "),
        part("LayerType: ", ","),
        reads=types(part("Inputs: [", "Outputs: [")),
        writes=types(part("Outputs: [", "TacticName: ")),
        onnx=tuple(re.findall(r"\[ONNX Layer: ([^\]]*)\]", line)),
    )


def _layer(name: str, kind: str, *, reads: Iterable[str], writes: Iterable[str], onnx: tuple[str, ...]) -> AuditedLayer:
    read, written = (tuple(sorted(set(found) - {""})) for found in (reads, writes))
    by_kind = any(word in kind.lower() for word in _MATRIX_KINDS)
    # Generated pointwise code (kgen) and a copy into another layout may bear the name of the product they prepare.
    by_name = kind.lower() not in ("kgen", "reformat") and _MATRIX_NAMES.search(name) is not None
    seen = bool(read) and not _is_opaque(kind, name)
    matrix = seen and (by_kind or by_name or ATTENTION.search(name) is not None)
    return AuditedLayer(name=name, kind=kind, reads=read, writes=written, matrix=matrix, onnx=onnx)


def _is_opaque(kind: str, name: str) -> bool:
    return any(word in f"{kind} {name}".lower() for word in _OPAQUE)


def _type_of_tensor(tensor: Any) -> str:
    if not isinstance(tensor, Mapping):
        return ""
    said = tensor.get("Datatype") or tensor.get("DataType") or tensor.get("Type") or tensor.get("Format/Datatype") or ""
    return _type_of(str(said))


def _type_of(said: str) -> str:
    words = re.findall(r"\w+", said.lower())
    return next((name for name, spellings in _TYPES.items() if any(word in spellings for word in words)), "")
