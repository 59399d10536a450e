from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify import api
from vitrify.cli.from_function import HIDDEN_DEFAULT, OUTPUT, Run, command_of, finish
from vitrify.cli.options import JsonFlag
from vitrify.cli.tables import side_by_side_table, verification_table
from vitrify.console import out

if TYPE_CHECKING:
    from vitrify.workflows.export import ExportResult


@command_of(api.export, output=OUTPUT, img_size=HIDDEN_DEFAULT)
def export(run: Run[ExportResult], *, json: JsonFlag = False) -> int:
    """Export a checkpoint to a verified, self-describing ONNX file.

    The file appears only when ONNX Runtime and OpenVINO give PyTorch's answers. bf16 is judged on the real images, at
    least 32 of them, and is used later only where it passed.

    Example: `vitrify export runs/flowers/best.safetensors -o flowers.onnx --images flowers/val`

    Args:
        json: Print the result as JSON on stdout.
    """
    return finish(run, _show, json=json)


def _show(result: ExportResult) -> None:
    out.print(verification_table(result.verification))
    out.print(side_by_side_table(result.answers))
    for note in result.notes:
        out.print(f"note: {note}")
    out.print(f"wrote {result.path}  {result.size_bytes / 1e6:.1f} MB, by {result.exporter}")
