"""A graph in the form and the types that a release of TensorRT takes."""

from __future__ import annotations

import onnx

from vitrify.artifacts import EnginePrecision
from vitrify.precision.observing import Batches
from vitrify.precision.recipe import Recipe, Rewriter
from vitrify.precision.weights import with_float_weights
from vitrify.progress import SILENT, Progress
from vitrify.spec import ModelSpec
from vitrify.tensorrt import Release


def graph_for_engine(
    content: bytes,
    spec: ModelSpec,
    choice: EnginePrecision,
    release: Release,
    *,
    batches: Batches,
    progress: Progress = SILENT,
) -> tuple[bytes, ModelSpec]:
    """Gives an fp32 graph 16-bit types where the graph decides, and writes 8-bit weights as floats for TensorRT 8.

    Args:
        content: An ONNX file.
        spec: Its spec.
        choice: The precision that was asked for.
        release: What will build.
        batches: Images that magnitudes are measured on, for fp16.
        progress: Told what was done.

    Returns:
        The file's bytes, rewritten where that was needed, and the spec that fits them.
    """
    if spec.precision == "int8" and not release.int8_weights:
        return with_float_weights(onnx.load_from_string(content)).SerializeToString(), spec
    if not release.strongly_typed or spec.precision != "fp32" or choice not in ("fp16", "bf16"):
        return content, spec
    progress.say(f"giving the graph the types of {choice}")
    rewritten = Rewriter(onnx.load_from_string(content), batches).rewrite(Recipe(precision=choice))
    for note in rewritten.notes:
        progress.say(note)
    return rewritten.proto.SerializeToString(), spec.replace(precision=choice)
