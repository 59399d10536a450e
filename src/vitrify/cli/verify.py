from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitrify.cli.options import JsonFlag, require_picture
from vitrify.cli.tables import drift_tables, verification_table
from vitrify.console import TerminalProgress, out, print_json

if TYPE_CHECKING:
    from vitrify.verification import LayerReport

_LAYER_IMAGES = 32
"""What leaves a block says more of an image than its logits do; more images change little."""


def verify(
    artifact: Path,
    /,
    *,
    reference: Path | None = None,
    images: tuple[str, ...] = (),
    max_images: Annotated[int | None, Parameter(show_default=False)] = None,
    runtime: str = "all",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    layers: Annotated[bool, Parameter(negative="")] = False,
    reference_runtime: str = "auto",
    tolerance: Annotated[float | None, Parameter(show_default=False)] = None,
    plot: Path | None = None,
    json: JsonFlag = False,
) -> int:
    """Say whether an artifact, on this machine, still is the model that was exported.

    Needs neither PyTorch nor images: the artifact carries inputs with known answers. Exits with 1 when it is not. An
    engine that passes keeps the record in its manifest. With --layers, it says in which block of the network the
    artifact leaves its reference, and exits with 1 where one does.

    Example: `vitrify verify flowers.onnx --reference runs/flowers/best.safetensors --images flowers/val`

    Example: `vitrify verify flowers.int8.onnx --reference flowers.onnx --layers --images flowers/val --plot drift.png`

    Args:
        artifact: What to judge.
        reference: A checkpoint or another artifact; its answers are the truth.
        images: Real images to compare on as well: files, folders or globs.
        max_images: Of those, compare on at most this many, evenly spread; by default all, and 32 with --layers.
        runtime: all that are installed, or one by name.
        precision: Arithmetic to judge.
        layers: Compare what leaves each block, not the logits alone.
        reference_runtime: With --layers, what runs the reference: auto, the exact one, or one by name.
        tolerance: With --layers, the largest relative error of a block; by default 1e-4 in fp32, 0.01 in fp16, 0.08 in
            bf16, 0.2 in int8, 0.25 in fp8.
        plot: With --layers, draw the error of each block as a picture, PNG.
        json: Print the record as JSON on stdout.
    """
    from vitrify.classifier import expand_sources, pick_evenly
    from vitrify.engines.manifest import rebuild_command
    from vitrify.errors import GateError
    from vitrify.spec import ENGINE_SUFFIXES
    from vitrify.verification import compare_layers, drift_picture, require_passed
    from vitrify.workflows.verify import verify_and_record

    _check_options(layers, reference_runtime, tolerance, plot, max_images)
    limit = max_images or (_LAYER_IMAGES if layers else None)
    sources = expand_sources(images)
    chosen = sources if limit is None else pick_evenly(sources, limit)
    if not layers:
        result = verify_and_record(
            artifact,
            reference=reference,
            images=chosen,
            runtime=runtime,
            precision=precision,
            progress=TerminalProgress(),
        )
        if json:
            print_json(result.verification)
        else:
            out.print(verification_table(result.verification))
            for note in result.notes:
                out.print(f"note: {note}")
        again = rebuild_command(artifact) if artifact.suffix in ENGINE_SUFFIXES else "export it again on this machine"
        require_passed(result.verification.checks, str(artifact), hint=f"{again}; if that passes, the file was damaged")
        return 0
    report = compare_layers(
        artifact,
        reference=reference,
        images=chosen,
        runtime=runtime,
        reference_runtime=reference_runtime,
        precision=precision,
        tolerance=tolerance,
        progress=TerminalProgress(),
    )
    if plot is not None:
        drift_picture(report, plot)
    if json:
        print_json(report)
        return 0 if report.passed else 1
    _print(report)
    failed = [run for run in report.comparisons if run.first is not None]
    if failed:
        run = failed[0]
        part = next(part for part in run.parts if part.part == run.first)
        raise GateError(
            f"{artifact} leaves {report.reference} at {part.part}",
            got=part.not_finite or f"a relative error of {part.relative_error:.2g}, {run.runtime} {run.precision}",
            expected=f"finite values, and a relative error of at most {run.tolerance:g}",
            hint="what comes before it holds: look at this part's weights and types, or keep it in a higher precision",
        )
    return 0


def _check_options(
    layers: bool, reference_runtime: str, tolerance: float | None, plot: Path | None, max_images: int | None
) -> None:
    from vitrify.errors import OptionError

    given = {"--reference-runtime": reference_runtime != "auto", "--tolerance": tolerance is not None, "--plot": plot}
    for name, value in given.items():
        if value and not layers:
            raise OptionError(f"{name} belongs to the comparison block by block", hint="add --layers")
    require_picture(plot, "the picture of the drift")
    if max_images is not None and max_images < 1:
        raise OptionError("--max-images is not positive", got=max_images, expected="1 or more")


def _print(report: LayerReport) -> None:
    for rows in drift_tables(report):
        out.print(rows)
    for words, parts in (
        (f"only in {report.reference}", report.only_reference),
        (f"only in {report.artifact}", report.only_artifact),
        ("of other shapes", report.other_shapes),
    ):
        if parts:
            out.print(f"{words}: {', '.join(parts)}")
    for note in report.notes:
        out.print(f"note: {note}")
