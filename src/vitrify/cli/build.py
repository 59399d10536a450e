from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclopts import ArgumentCollection, Group, Parameter

from vitrify import api
from vitrify.cli.from_function import HIDDEN_DEFAULT, Run, command_of, finish
from vitrify.cli.options import JsonFlag
from vitrify.cli.tables import engine_table, verification_table
from vitrify.console import out
from vitrify.errors import OptionError

if TYPE_CHECKING:
    from vitrify.workflows.build import BuildResult


def _refuse_beside_rebuild(arguments: ArgumentCollection) -> None:
    """A rebuild takes everything from the manifest: an option beside it would be ignored."""
    given = [argument.name for argument in arguments if argument.tokens]
    others = [name for name in given if name != "--rebuild"]
    if "--rebuild" in given and others:
        raise OptionError(
            "--rebuild takes the options and the engine's name from the manifest",
            got=", ".join(others),
            expected="--rebuild alone, or with --images, --max-images, --faster-than, --min-speedup or --json",
            hint="leave them out, or build from the ONNX file: vitrify build MODEL.onnx -o MODEL.engine",
        )


_GROUP = Group("How to build", validator=_refuse_beside_rebuild)
_HOW: dict[str, Any] = dict.fromkeys(
    (
        "tensorrt",
        "compute_capability",
        "precision",
        "profile",
        "hold_norms",
        "workspace_mib",
        "optimization_level",
        "timing_cache",
        "hardware_compatible",
        "tactic_sources",
        "rebuild",
        "tf32",
        "version_compatible",
    ),
    Parameter(group=_GROUP),
) | {"output": Parameter(name=["--output", "-o"], group=_GROUP)}


@command_of(api.build, **_HOW, min_speedup=HIDDEN_DEFAULT)
def build(run: Run[BuildResult], *, json: JsonFlag = False) -> int:
    """Build a TensorRT engine from an ONNX file, with a manifest beside it.

    The engine appears only when it was built in the precision that was asked for and, where it is for this GPU, gives
    the ONNX file's answers. TensorRT-RTX compiles for GPUs that are not here; `vitrify verify` on the target compares.

    Example: `vitrify build flowers.onnx -o flowers.engine --tensorrt rtx --compute-capability 8.9`

    Example: `vitrify build flowers.int8.onnx -o flowers.int8.engine --faster-than flowers.fp16.engine`

    Args:
        json: Print the result as JSON on stdout.
    """
    return finish(run, _show, json=json)


def _show(result: BuildResult) -> None:
    out.print(engine_table(result.manifest, title=str(result.path)))
    if result.manifest.verification is not None:
        out.print(verification_table(result.manifest.verification))
    for won in result.manifest.races:
        out.print(
            f"batch {won.batch}: {won.latency_ms:.3g} ms, {won.speedup:.2f} times as fast as {won.rival} "
            f"({won.speedup_low:.2f} in the first quartile)"
        )
    for note in result.notes:
        out.print(f"note: {note}")
    out.print(
        f"wrote {result.path}  {result.manifest.plan_bytes / 1e6:.1f} MB in {result.manifest.build_seconds:.0f} s"
    )
