from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify import api
from vitrify.cli.from_function import OUTPUT, Run, command_of, finish
from vitrify.cli.options import JsonFlag
from vitrify.cli.tables import search_tables
from vitrify.console import out

if TYPE_CHECKING:
    from vitrify.workflows.quantize import QuantizeResult


@command_of(api.quantize, output=OUTPUT)
def quantize(run: Run[QuantizeResult], *, json: JsonFlag = False) -> int:
    """Make an ONNX file in a lower precision that is accurate enough and faster than its source, or none.

    Measures, and where a gate does not hold, keeps the blocks that suffer most as they are, then tries the next higher
    precision. Every attempt goes into the report and into the artifact. Exits with 1 where nothing held.

    Example: `vitrify quantize vit.onnx --to int8 --calibration photos/train --data photos/val -o vit.int8.onnx`

    Args:
        json: Print the result as JSON on stdout.
    """
    return finish(run, _show, json=json)


def _show(result: QuantizeResult) -> None:
    out.print(*search_tables(result.search), sep="\n")
    for note in result.notes:
        out.print(f"note: {note}")
    if result.path is not None:
        size = f"{result.size_bytes / 1e6:.1f} MB, the source {result.source_bytes / 1e6:.1f} MB"
        out.print(f"wrote {result.path}  {size}")
