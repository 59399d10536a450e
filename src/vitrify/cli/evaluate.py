from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify import api
from vitrify.cli.from_function import HIDDEN_DEFAULT, Run, command_of, finish
from vitrify.cli.options import JsonFlag
from vitrify.cli.tables import evaluation_tables
from vitrify.console import out

if TYPE_CHECKING:
    from vitrify.verification import Evaluation


@command_of(api.evaluate, min_top1=HIDDEN_DEFAULT)
def evaluate(run: Run[Evaluation], *, json: JsonFlag = False) -> int:
    """Measure accuracy on a labelled folder, with a confidence interval and the answers that flipped.

    Exits with 1 when --min-top1 is not reached and with 2 when images could not be read.

    Example: `vitrify eval flowers.onnx flowers/val --reference runs/flowers/best.safetensors --confusion confusion.png`

    Args:
        json: Print the result as JSON on stdout.
    """
    unread = False

    def show(result: Evaluation) -> None:
        for table in evaluation_tables(result):
            out.print(table)

    def counted() -> Evaluation:
        nonlocal unread
        result = run()
        unread = bool(result.failures)
        return result

    return finish(counted, show, json=json) or (2 if unread else 0)
