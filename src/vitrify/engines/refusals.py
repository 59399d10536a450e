"""What TensorRT refuses while it builds, in words that say how to go on."""

from __future__ import annotations

import re
from typing import Any

from vitrify.engines.config import BuildConfig
from vitrify.engines.releases import TensorRt
from vitrify.errors import BuildError, DeviceError

_OUT_OF_MEMORY = re.compile(r"out ?of ?memory|cudaMalloc|insufficient memory|Cuda failure: 2\b", re.IGNORECASE)


def make_builder(trt: TensorRt, logger: Any) -> Any:
    """A builder.

    Raises:
        DeviceError: There is no GPU that it can use.
    """
    try:
        builder = trt.module.Builder(logger)
    except TypeError:  # pybind11's answer to a factory that gave nothing
        builder = None
    if builder is None:
        raise DeviceError(
            f"{trt.name} cannot build here",
            got="no GPU that it can use",
            expected="a GPU and a driver for its CUDA version",
            hint="check nvidia-smi; without a GPU: vitrify build MODEL.onnx -o MODEL.engine --tensorrt rtx "
            "--compute-capability 8.9",
        )
    return builder


def parser_error(trt: TensorRt, parser: Any, logged: str) -> BuildError:
    """What is said of a graph that the parser refuses.

    Args:
        trt: The binding.
        parser: Its `OnnxParser`, after it refused.
        logged: What TensorRT wrote meanwhile.
    """
    lines = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        name = error.node_name() if hasattr(error, "node_name") else f"number {error.node()}"
        kind = f" ({error.node_operator()})" if hasattr(error, "node_operator") else ""
        lines.append(f"node {name}{kind}: {error.desc()}" if name else str(error.desc()))
    text = "\n       ".join(lines) or logged
    hint = "report this graph; vitrify export makes graphs that TensorRT reads"
    if not trt.release.layer_normalization and "LayerNormalization" in text + logged:
        hint = "vitrify export CHECKPOINT -o MODEL.onnx --opset 16 writes LayerNorm in steps that it knows"
    elif not lines or "deserialize" in text or "ModelProto" in text:
        hint = "the file is damaged: export it again"
    return BuildError(f"{trt.name} cannot read the graph", got=text, hint=hint)


def build_error(text: str, config: BuildConfig) -> BuildError | DeviceError:
    """What is said of a build that gave nothing.

    Args:
        text: What TensorRT wrote meanwhile.
        config: How it was to be built.
    """
    if _OUT_OF_MEMORY.search(text):
        return DeviceError(
            "the GPU's memory does not suffice for this build",
            got=text,
            hint=f"a smaller largest batch than {config.max_batch} (--profile), or --workspace-mib",
        )
    hint = "try one --profile at a time, or a graph in another precision: vitrify quantize MODEL.onnx --to fp16"
    return BuildError("TensorRT made no engine of the graph", got=text, hint=hint)
