from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify import api
from vitrify.cli.from_function import HIDDEN_DEFAULT, Run, command_of, finish
from vitrify.cli.options import JsonFlag
from vitrify.cli.tables import drift_tables, verification_table
from vitrify.console import out

if TYPE_CHECKING:
    from vitrify.verification import LayerReport
    from vitrify.workflows.verify import VerifyResult


@command_of(api.verify, max_images=HIDDEN_DEFAULT, tolerance=HIDDEN_DEFAULT)
def verify(run: Run[VerifyResult | LayerReport], *, json: JsonFlag = False) -> int:
    """Say whether an artifact, on this machine, still is the model that was exported.

    Needs neither PyTorch nor images: the artifact carries inputs with known answers. Exits with 1 when it is not. An
    engine that passes keeps the record in its manifest. With --layers, it says in which block of the network the
    artifact leaves its reference, and exits with 1 where one does.

    Example: `vitrify verify flowers.onnx --reference runs/flowers/best.safetensors --images flowers/val`

    Example: `vitrify verify flowers.int8.onnx --reference flowers.onnx --layers --images flowers/val --plot drift.png`

    Args:
        json: Print the record as JSON on stdout.
    """
    return finish(run, _show, json=json, record=lambda made: getattr(made, "verification", made))


def _show(result: VerifyResult | LayerReport) -> None:
    from vitrify.verification import LayerReport

    if isinstance(result, LayerReport):
        for rows in drift_tables(result):
            out.print(rows)
        for words, parts in (
            (f"only in {result.reference}", result.only_reference),
            (f"only in {result.artifact}", result.only_artifact),
            ("of other shapes", result.other_shapes),
        ):
            if parts:
                out.print(f"{words}: {', '.join(parts)}")
    else:
        out.print(verification_table(result.verification))
    for note in result.notes:
        out.print(f"note: {note}")
