from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token

from vitrify import api
from vitrify.cli.from_function import OUTPUT, Run, command_of, finish
from vitrify.cli.options import JsonFlag
from vitrify.console import out
from vitrify.spec import KwargValue
from vitrify.text import for_shell

if TYPE_CHECKING:
    from vitrify.workflows.train import TrainResult


def _pairs(_: Any, tokens: Sequence[Token]) -> dict[str, KwargValue]:
    from vitrify.workflows.train import parse_model_kwargs

    return parse_model_kwargs([token.value for token in tokens])


# As words, `--model-kwargs patch_size=8 depth=4`, where the parser would want one option a key.
_MODEL_KWARGS = Annotated[
    dict[str, KwargValue], Parameter(converter=_pairs, accepts_keys=False, n_tokens=-1, show_default=False)
]


@command_of(api.train, output=OUTPUT, model_kwargs=_MODEL_KWARGS)
def train(run: Run[TrainResult], *, json: JsonFlag = False) -> int:
    """Fine-tune a Vision Transformer on an image folder.

    Makes a run folder with best.safetensors, last.safetensors, metrics.csv, curves.png, confusion.png and report.md.

    Example: `vitrify train flowers/ --arch vit_base_patch16_224 --init pretrained -o runs/flowers`

    Args:
        json: Print the result as JSON on stdout.
    """
    return finish(run, lambda result: _show(result, run.args[0]), json=json)


def _show(result: TrainResult, data: Path) -> None:
    out.print(f"best epoch {result.best_epoch}: top-1 {result.top1:.2%} of {result.val_count} images")
    out.print(f"wrote {result.best}")
    out.print(f"next: vitrify export {for_shell(result.best)} -o model.onnx --images {for_shell(data)}")
