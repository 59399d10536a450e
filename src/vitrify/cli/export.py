from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vitrify.cli.options import JsonFlag, Output
from vitrify.cli.tables import side_by_side_table, verification_table
from vitrify.console import TerminalProgress, out, print_json


def export(
    checkpoint: Path,
    /,
    *,
    output: Output,
    images: tuple[str, ...] = (),
    max_images: int = 256,
    labels: Path | None = None,
    exporter: Literal["auto", "dynamo", "torchscript"] = "auto",
    opset: Literal[16, 18] = 18,
    arch: str | None = None,
    num_heads: int | None = None,
    img_size: Annotated[tuple[int, ...] | None, Parameter(show_default=False)] = None,
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"] | None = None,
    norm_eps: float | None = None,
    pool: Literal["token", "avg", "token_avg"] | None = None,
    raw_weights: Annotated[bool, Parameter(negative="")] = False,
    json: JsonFlag = False,
) -> int:
    """Export a checkpoint to a verified, self-describing ONNX file.

    The file appears only when ONNX Runtime and OpenVINO give PyTorch's answers. bf16 is judged on the real images, at
    least 32 of them, and is used later only where it passed.

    Example: `vitrify export runs/flowers/best.safetensors -o flowers.onnx --images flowers/val`

    Args:
        checkpoint: Weights of vitrify, timm, Hugging Face transformers (file or folder) or JAX (.npz).
        output: The ONNX file.
        images: Real images to compare on: files, folders or globs.
        max_images: Of those, compare on at most this many, evenly spread.
        labels: A text file with one class name a line, where the checkpoint does not tell.
        exporter: auto tries dynamo and falls back to torchscript when its gate fails.
        opset: 16 is for TensorRT 8.5 alone, which does not know LayerNormalization.
        arch: timm's model name, where tensors alone do not tell.
        num_heads: Attention heads; shapes do not show them.
        img_size: Image side in pixels, or height and width, where the position embedding does not tell.
        activation: Activation of the MLPs; tensors do not show it.
        norm_eps: Epsilon of the layer norms; tensors do not show it.
        pool: What the head reads, where tensors do not tell.
        raw_weights: Take the raw weights even where the file also holds their moving average.
        json: Print the result as JSON on stdout.
    """
    from vitrify.checkpoints import Overrides
    from vitrify.classifier import expand_sources, pick_evenly
    from vitrify.workflows.export import onnx_from_checkpoint, read_labels

    result = onnx_from_checkpoint(
        checkpoint,
        output,
        images=pick_evenly(expand_sources(images), max_images),
        labels=read_labels(labels) if labels else None,
        exporter=exporter,
        opset=opset,
        overrides=Overrides(
            architecture=arch,
            num_heads=num_heads,
            img_size=img_size,
            activation=activation,
            norm_eps=norm_eps,
            pool=pool,
            raw_weights=raw_weights,
        ),
        progress=TerminalProgress(),
    )
    if json:
        print_json(result)
        return 0
    out.print(verification_table(result.verification))
    out.print(side_by_side_table(result.answers))
    for note in result.notes:
        out.print(f"note: {note}")
    out.print(f"wrote {result.path}  {result.size_bytes / 1e6:.1f} MB, by {result.exporter}")
    return 0
