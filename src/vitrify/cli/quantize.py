from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitrify.cli.options import JsonFlag
from vitrify.cli.tables import search_table
from vitrify.console import TerminalProgress, err, out, print_error, print_json

if TYPE_CHECKING:
    from vitrify.spec import PrecisionSearch


def quantize(
    model: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    to: Literal["int8", "fp8", "fp16", "bf16"] = "int8",
    calibration: tuple[str, ...],
    data: Path | None = None,
    images: tuple[str, ...] = (),
    calibration_images: int = 256,
    max_images: int = 2000,
    max_drop: float = 0.5,
    min_agreement: float = 99.0,
    min_speedup: float = 1.05,
    judge_speed: bool = True,
    fallback: bool = True,
    calibrator: Literal["mse", "percentile", "entropy", "max"] = "mse",
    smooth: bool = True,
    around: Literal["fp32", "fp16", "bf16"] = "fp32",
    keep: tuple[str, ...] = (),
    narrow_io: Annotated[bool, Parameter(negative="")] = False,
    runtime: Literal["auto", "openvino", "onnxruntime"] = "auto",
    batch: int = 1,
    threads: int | None = None,
    report: Path | None = None,
    json: JsonFlag = False,
) -> int:
    """Make an ONNX file in a lower precision that is accurate enough and faster than its source, or none.

    Measures, and where a gate does not hold, keeps the blocks that suffer most as they are, then tries the next higher
    precision. Every attempt goes into the report and into the artifact. Exits with 1 where nothing held.

    Example: `vitrify quantize vit.onnx --to int8 --calibration photos/train --data photos/val -o vit.int8.onnx`

    Args:
        model: An fp32 ONNX file that vitrify export made.
        output: The ONNX file to write.
        to: What to begin with: int8 and fp8 as Q/DQ nodes, fp16 and bf16 as types.
        calibration: Images that look like those to come: files, folders or globs. Ranges are measured on them.
        data: A labelled folder, DIR/CLASS/*, that accuracy is judged on.
        images: Without labels: images on which answers are compared with the source's. By default the calibration's.
        calibration_images: Calibrate on at most this many, evenly spread.
        max_images: Judge accuracy on at most this many, evenly spread.
        max_drop: Most top-1 accuracy that may be lost, in percentage points, with --data.
        min_agreement: Least share of the source's answers, in percent, without --data.
        min_speedup: Least speedup over the source in the fastest precision that it holds here, in the runtime at hand:
            median over the rounds. The first quartile has to be above 1 as well.
        judge_speed: Measure speed here. Leave it out for a file that another machine, such as one with a GPU, will run.
        fallback: Try the next higher precision where one does not hold.
        calibrator: How much of an activation's range 8 bits cover.
        smooth: Move outlier channels of activations into weights before quantizing.
        around: What everything but the linear layers computes in, with int8 and fp8: fp16 for a GPU.
        keep: Blocks that stay as they are, such as blocks.3.
        narrow_io: Take and give fp16 instead of fp32; only with --to fp16.
        runtime: What judges.
        batch: Images in one timed inference.
        threads: Of the runtime; by default what it chooses.
        report: Folder for the report; by default beside the output, named after it.
        json: Print the result as JSON on stdout.
    """
    from vitrify.classifier import expand_sources, pick_evenly
    from vitrify.errors import OptionError, StorageError
    from vitrify.files import require_writable
    from vitrify.precision import Recipe
    from vitrify.workflows.limits import Limits
    from vitrify.workflows.precision_report import write_report
    from vitrify.workflows.quantize import QuantizeConfig, labelled_images, quantized_from_onnx

    if narrow_io and to != "fp16":
        raise OptionError("only an fp16 graph can take and give fp16", got=f"--to {to}", hint="leave --narrow-io out")
    if to in ("fp16", "bf16") and (around != "fp32" or not smooth or calibrator != "mse"):
        raise OptionError(
            "--around, --no-smooth and --calibrator are about 8 bits", got=f"--to {to}", hint="leave them out"
        )
    folder = report or output.with_name(f"{output.stem}-report")
    require_writable(folder / "report.md")
    progress = TerminalProgress()
    judged, labels = labelled_images(model, data, max_images) if data is not None else (None, None)
    config = QuantizeConfig(
        recipe=Recipe(
            precision=to,
            around=around,
            calibrator=calibrator,
            smooth=smooth,
            split_qkv=around != "fp32",  # what is meant for TensorRT
            keep=keep,
            narrow=narrow_io,
        ),
        fallback=fallback,
        limits=Limits(
            max_drop=max_drop / 100,
            min_agreement=min_agreement / 100,
            min_speedup=min_speedup if judge_speed else None,
        ),
        runtime=runtime,
        batch=batch,
        threads=threads,
    )
    title = f"{model.name} to {to}"
    attempts: list[PrecisionSearch] = []
    try:
        result = quantized_from_onnx(
            model,
            output,
            calibration=pick_evenly(expand_sources(calibration), calibration_images),
            config=config,
            images=judged if judged is not None else pick_evenly(expand_sources(images), max_images),
            labels=labels,
            attempted=attempts.append,
            progress=progress,
        )
    except BaseException as error:  # Ctrl-C too: what was measured until then is not lost
        if attempts:
            _rescue(attempts[-1], folder, title, error)
        raise
    failed: StorageError | None = None
    written: tuple[Path, ...] = ()
    try:
        written = write_report(result.search, folder, title=title, notes=result.notes)
    except StorageError as error:  # the artifact stands all the same
        failed = error
    if json:
        print_json(result)
    else:
        out.print(search_table(result.search))
        for note in result.notes:
            out.print(f"note: {note}")
        if written:
            out.print(f"report: {', '.join(map(str, written))}")
        if result.path is not None:
            size = f"{result.size_bytes / 1e6:.1f} MB, the source {result.source_bytes / 1e6:.1f} MB"
            out.print(f"wrote {result.path}  {size}")
    if failed is not None:
        print_error(failed)
    result.require_found(model)
    return failed.exit_code if failed is not None else 0


def _rescue(search: PrecisionSearch, folder: Path, title: str, error: BaseException) -> None:
    """Writes what a search measured before it ended in an error; where that fails too, prints it."""
    from vitrify.errors import VitrifyError
    from vitrify.workflows.precision_report import write_report

    why = "interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
    if isinstance(error, VitrifyError):
        why = error.what
    try:
        written = write_report(search, folder, title=title, notes=[f"no artifact was written: {why}"])
    except (VitrifyError, OSError):
        err.print(search_table(search))
    else:
        err.print(f"report: {', '.join(map(str, written))}")
