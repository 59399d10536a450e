"""Whether the 8-bit products of an ONNX file may run on this processor."""

from __future__ import annotations

import onnx
from google.protobuf.message import DecodeError

from vitrify.artifacts import Artifact
from vitrify.errors import InputError, ProcessorError
from vitrify.graphs import integer_products, saturating_products
from vitrify.machine import instruction_sets, processor_name, saturates_8bit

_MARKS = (b"DequantizeLinear", b"Integer", b"QLinear", b"QGemm", b"QAttention", b"DynamicQuantize")
"""Some of these stand in every graph with 8-bit products; other files are not looked at any closer."""


def require_exact_products(artifact: Artifact, *, dequantize: bool) -> None:
    """Refuses a file whose 8-bit products would saturate on this processor without a word.

    Where the artifact's record has the proof, the graph is not looked at again.

    Args:
        artifact: An ONNX file. One that cannot be parsed is left to the runtime to refuse.
        dequantize: Whether it is to multiply in fp32.

    Raises:
        ProcessorError: It would saturate; or it has operators on integers, which multiply in 8 bits all the same.
    """
    if not saturates_8bit():
        return
    try:
        if artifact.spec.saturation_free:
            return
    except InputError:
        pass  # the file of somebody else
    try:
        if not any(mark in artifact.content for mark in _MARKS):
            return
        proto = onnx.load_from_string(artifact.content)
    except DecodeError:
        return
    unproven = saturating_products(proto)
    if dequantize:
        unproven = tuple(name for name in integer_products(proto) if name in unproven)
    if not unproven:
        return
    raise ProcessorError(
        f"8-bit products of {artifact} may saturate on this processor, whose answers would be wrong",
        got=f"{unproven[0]}{f' and {len(unproven) - 1} more' if unproven[1:] else ''} on {processor_name()}"
        f" with {', '.join(instruction_sets())}",
        expected="avx_vnni, avx512_vnni or amx_int8; or weights that cannot saturate, as vitrify quantize writes them",
        hint="quantize its fp32 source again with this vitrify"
        + ("" if dequantize else ", or run it dequantised: --precision fp32"),
    )
