from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from vitrify.cli.options import JsonFlag, Output
from vitrify.console import TerminalProgress, out, print_json
from vitrify.spec import KwargValue
from vitrify.training.config import TrainConfig
from vitrify.workflows.train import checkpoint_from_images, parse_model_kwargs


def _pairs(_: Any, tokens: Sequence[Token]) -> dict[str, KwargValue]:
    return parse_model_kwargs([token.value for token in tokens])


@dataclass(frozen=True, kw_only=True)
class _Options(TrainConfig):
    __doc__ = TrainConfig.__doc__

    # As words, `--model-kwargs patch_size=8 depth=4`, where the parser would want one option a key.
    model_kwargs: Annotated[
        dict[str, KwargValue],
        Parameter(converter=_pairs, accepts_keys=False, n_tokens=-1, show_default=False),
    ] = field(default_factory=dict)


_DEFAULTS = _Options()


def train(
    data: Path,
    /,
    *,
    output: Output,
    config: Annotated[_Options, Parameter(name="*")] = _DEFAULTS,
    json: JsonFlag = False,
) -> int:
    """Fine-tune a Vision Transformer on an image folder.

    Makes a run folder with best.safetensors, last.safetensors, metrics.csv, curves.png, confusion.png and report.md.

    Example: `vitrify train flowers/ --arch vit_base_patch16_224 --init pretrained -o runs/flowers`

    Args:
        data: DATA/CLASS/*.jpg, split by --seed and --val-fraction, or DATA/train/CLASS and DATA/val/CLASS.
        output: The run folder.
        config: How to train.
        json: Print the result as JSON on stdout.
    """
    result = checkpoint_from_images(data, Path(output), config, progress=TerminalProgress())
    if json:
        print_json(result)
    else:
        out.print(f"best epoch {result.best_epoch}: top-1 {result.top1:.2%} of {result.val_count} images")
        out.print(f"wrote {result.best}")
        out.print(f"next: vitrify export {result.best} -o model.onnx --images {data}")
    return 0
