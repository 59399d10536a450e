from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import ArgumentCollection, Group, Parameter

from vitrify.cli.options import JsonFlag
from vitrify.cli.tables import engine_table, verification_table
from vitrify.console import TerminalProgress, out, print_json
from vitrify.errors import OptionError


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


_HOW = Parameter(group=Group("How to build", validator=_refuse_beside_rebuild))


def build(
    model: Path,
    /,
    *,
    output: Annotated[str | None, _HOW, Parameter(name=["--output", "-o"])] = None,
    rebuild: Annotated[bool, _HOW, Parameter(negative="")] = False,
    tensorrt: Annotated[Literal["auto", "full", "rtx"], _HOW] = "auto",
    compute_capability: Annotated[tuple[str, ...], _HOW] = (),
    precision: Annotated[Literal["auto", "fp32", "fp16", "bf16", "int8", "fp8"], _HOW] = "auto",
    profile: Annotated[tuple[str, ...], _HOW] = ("1:8:64",),
    hold_norms: Annotated[bool, _HOW] = True,
    tf32: Annotated[bool, _HOW, Parameter(negative="")] = False,
    workspace_mib: Annotated[int | None, _HOW] = None,
    optimization_level: Annotated[int | None, _HOW] = None,
    timing_cache: Annotated[str, _HOW] = "auto",
    version_compatible: Annotated[bool, _HOW, Parameter(negative="")] = False,
    hardware_compatible: Annotated[Literal["none", "ampere+", "same-compute-capability"], _HOW] = "none",
    tactic_sources: Annotated[tuple[str, ...], _HOW] = (),
    images: tuple[str, ...] = (),
    max_images: int = 256,
    faster_than: Path | None = None,
    min_speedup: Annotated[float | None, Parameter(show_default=False)] = None,
    json: JsonFlag = False,
) -> int:
    """Build a TensorRT engine from an ONNX file, with a manifest beside it.

    The engine appears only when it was built in the precision that was asked for and, where it is for this GPU, gives
    the ONNX file's answers. TensorRT-RTX compiles for GPUs that are not here; `vitrify verify` on the target compares.

    Example: `vitrify build flowers.onnx -o flowers.engine --tensorrt rtx --compute-capability 8.9`

    Example: `vitrify build flowers.int8.onnx -o flowers.int8.engine --faster-than flowers.fp16.engine`

    Args:
        model: An ONNX file; with --rebuild, an engine.
        output: The engine: .engine or .plan.
        rebuild: Build an engine again for this machine, from the ONNX file and with the options in its manifest; no
            other option of this group goes with it.
        tensorrt: full is TensorRT itself, rtx is TensorRT-RTX; auto takes the first where both are installed.
        compute_capability: GPUs to compile for, with TensorRT-RTX: 8.9 is an RTX 4090, 12.0 an RTX 5090.
        precision: auto takes the graph's own. TensorRT 8 makes fp16 of fp32, with LayerNorm and softmax in fp32.
        profile: Smallest, usual and largest batch, one profile or several.
        hold_norms: TensorRT 8, fp16: LayerNorm and softmax stay in fp32. Without, the build is quick and errors are
            several times larger.
        tf32: Permit products of fp32 numbers with 10 bits of mantissa.
        workspace_mib: Most scratch memory for a layer, in MiB.
        optimization_level: 0, quick, to 5, thorough.
        timing_cache: Folder of timing caches; auto is in the user's cache folder, none keeps nothing.
        version_compatible: The engine also runs on later minor versions of TensorRT.
        hardware_compatible: Other GPUs than this one that the engine shall run on.
        tactic_sources: Libraries that kernels may come from, such as CUBLAS_LT.
        images: Real images to compare on: files, folders or globs.
        max_images: Of those, compare on at most this many, evenly spread.
        faster_than: An engine of the same model that the new one has to outrun on this GPU, at the batch sizes it is
            tuned for; else nothing is written and the exit code is 1.
        min_speedup: Least speedup over that engine, by default 1.05.
        json: Print the result as JSON on stdout.
    """
    from vitrify.classifier import expand_sources, pick_evenly
    from vitrify.engines import BuildConfig, Profile
    from vitrify.workflows.build import engine_from_manifest, engine_from_onnx
    from vitrify.workflows.engine_race import MIN_SPEEDUP, Rival

    if faster_than is None and min_speedup is not None:
        raise OptionError("--min-speedup belongs to a race", hint="add --faster-than ENGINE")
    least = MIN_SPEEDUP if min_speedup is None else min_speedup
    rival = Rival(path=faster_than, min_speedup=least) if faster_than is not None else None

    progress, chosen = TerminalProgress(), pick_evenly(expand_sources(images), max_images)
    if rebuild:
        result = engine_from_manifest(model, images=chosen, rival=rival, progress=progress)
    elif output is None:
        raise OptionError("vitrify build needs the engine's name", expected="-o MODEL.engine")
    else:
        config = BuildConfig(
            tensorrt=tensorrt,
            precision=precision,
            profiles=tuple(Profile.parse(text) for text in profile),
            hold_norms=hold_norms,
            tf32=tf32,
            workspace_mib=workspace_mib,
            optimization_level=optimization_level,
            timing_cache=timing_cache,
            version_compatible=version_compatible,
            hardware_compatible=hardware_compatible,
            compute_capabilities=compute_capability,
            tactic_sources=tactic_sources,
        )
        result = engine_from_onnx(model, output, config=config, images=chosen, rival=rival, progress=progress)
    if json:
        print_json(result)
        return 0
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
    return 0
