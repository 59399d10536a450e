from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitrify.cli.console import TerminalProgress, out, print_json
from vitrify.cli.options import JsonFlag, Output
from vitrify.training.config import TrainConfig

_DEFAULTS = TrainConfig()


def train(
    data: Path,
    /,
    *,
    output: Output,
    config: Annotated[TrainConfig, Parameter(name="*")] = _DEFAULTS,
    json: JsonFlag = False,
) -> int:
    """Fine-tune a Vision Transformer on an image folder.

    Makes a run folder with best.safetensors, last.safetensors, metrics.csv, curves.png, confusion.png and report.md.

    Example: `vitrify train flowers/ --arch vit_base_patch16_224 --init pretrained -o runs/flowers`

    Args:
        data: DATA/<class>/*.jpg, split by --seed and --val-fraction, or DATA/train/<class> and DATA/val/<class>.
        output: The run folder.
        config: How to train.
        json: Print the result as JSON on stdout.
    """
    from vitrify.workflows.train import checkpoint_from_images

    result = checkpoint_from_images(data, Path(output), config, progress=TerminalProgress())
    if json:
        print_json(result)
    else:
        out.print(f"best epoch {result.best_epoch}: top-1 {result.top1:.2%} of {result.val_count} images")
        out.print(f"wrote {result.best}")
        out.print(f"next: vitrify export {result.best} -o model.onnx --images {data}")
    return 0
