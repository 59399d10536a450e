"""`vitrify build`: an ONNX file to a verified TensorRT engine with a manifest beside it."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vitrify import __version__
from vitrify.artifacts import ENGINE_SUFFIXES, Artifact, BuildConfig, Gpu, Manifest, manifest_path, read_manifest
from vitrify.classifier import pick_evenly
from vitrify.cuda import gpu_or_none, require_gpu
from vitrify.errors import ArtifactError, EngineError, MissingExtraError, OptionError
from vitrify.files import atomic_paths, sha256_of
from vitrify.pixels import ImageSource, preprocess
from vitrify.precision import graph_for_engine
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import runtimes_for
from vitrify.spec import ModelSpec, Precision, Result, Verification, golden_recipe_batch
from vitrify.tensorrt import BuiltPlan, TensorRt, build_plan, load_tensorrt
from vitrify.verification import require_passed, verify_artifact
from vitrify.workflows.races import Rival, batches_to_race, race

T = TypeVar("T")

_NEXT: dict[Precision, dict[Precision, str]] = {
    "fp16": {"bf16": "bf16, whose range is fp32's", "fp32": "fp32"},
    "bf16": {"fp16": "fp16, which rounds less", "fp32": "fp32"},
    "int8": {"fp16": "fp16", "int8": "fewer quantized blocks"},
    "fp8": {"fp16": "fp16", "fp8": "fewer quantized blocks"},
}
"""What to try where a precision did not hold its gate, as far as the release has it."""


_MEASURED_IMAGES, _MEASURED_BATCH = 64, 8


@dataclass(frozen=True, kw_only=True)
class BuildResult(Result):
    """What a build did.

    Attributes:
        path: The plan; its manifest is beside it.
        manifest: What the manifest says.
        notes: What the user should know.
    """

    path: Path
    manifest: Manifest
    notes: tuple[str, ...]


def engine_from_onnx(
    onnx: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    config: BuildConfig | None = None,
    images: Sequence[ImageSource] = (),
    rival: Rival | None = None,
    progress: Progress = SILENT,
) -> BuildResult:
    """Builds an engine, audits it, compares it with its source on this GPU, and only then lets it appear.

    Where the engine is for another GPU, nothing can be compared here: the result says so, and `vitrify verify` on the
    target does it.

    Args:
        onnx: An ONNX file with a spec.
        output: The plan: `.engine` or `.plan`.
        config: How to build.
        images: Real images to compare on.
        rival: An engine that it has to outrun on this GPU.
        progress: Told of each step.

    Raises:
        OptionError: An option that this TensorRT or graph cannot honour.
        ArtifactError, SpecError: The ONNX file cannot be used.
        MissingExtraError: TensorRT or cuda-bindings is not installed.
        DeviceError: A GPU is needed and there is none, or its memory does not suffice.
        BuildError: TensorRT refuses the graph.
        GateError: The engine is not what was asked for, does not give its source's answers, or is no faster than its
            rival; nothing was written.
        StorageError: A file cannot be written; what stood there is still there.
    """
    onnx, output, config = Path(onnx), Path(output), config or BuildConfig()
    if output.suffix not in ENGINE_SUFFIXES:
        raise OptionError(
            f"cannot build {output}", got=f"the suffix {output.suffix!r}", expected=" or ".join(ENGINE_SUFFIXES)
        )
    if onnx.suffix != ".onnx":
        raise OptionError(
            f"cannot build an engine from {onnx}", expected="an .onnx file", hint="vitrify export makes one"
        )
    artifact = Artifact.open(onnx)
    artifact.require_intact()
    content, spec, sha256 = artifact.content, artifact.spec.replace(file_sha256=""), artifact.sha256
    artifact.release()
    trt = load_tensorrt(config.tensorrt)
    # TensorRT itself times kernels on a GPU: why there is none has to be said before a graph is read. TensorRT-RTX
    # compiles for GPUs that are named.
    gpu = require_gpu() if trt.release.flavour == "full" else gpu_or_none()
    raced_at = batches_to_race(rival, config, artifact, trt, gpu)
    graph, typed = graph_for_engine(
        content,
        spec,
        config.precision,
        trt.release,
        batches=lambda: _measured_images(spec, images),
        progress=progress,
    )
    del content
    built = build_plan(graph, typed, config, trt=trt, gpu=gpu, progress=progress)
    del graph
    manifest = _manifest(
        built,
        trt,
        onnx=os.path.relpath(onnx, output.parent),
        onnx_sha256=sha256,
        spec=spec,
        config=config,
        gpu=gpu,
    )
    # The manifest is moved first: with another plan beside it, or none, it is refused and says how to build again with
    # these options.
    with atomic_paths(manifest_path(output), output) as (manifest_file, plan_file):
        plan_file.write_bytes(built.plan)
        built = dataclasses.replace(built, plan=b"")  # it is on the disk, and the runtime reads it again
        notes = []
        if _runs_here(built, trt, gpu):
            record = _verified(plan_file, manifest, trt, onnx, images=images, progress=progress)
            manifest = dataclasses.replace(manifest, verification=record)
            if rival is not None:
                progress.say(f"racing {rival.path}")
                races = _beside(plan_file, manifest, lambda: race(plan_file, rival, raced_at, spec))
                manifest = dataclasses.replace(manifest, races=races)
        else:
            notes.append(f"not compared with its source, which needs the GPU: there, run vitrify verify {output}")
        manifest_file.write_text(manifest.to_json(), encoding="utf-8")
    return BuildResult(path=output, manifest=manifest, notes=tuple(notes))


def engine_from_manifest(
    plan: str | os.PathLike[str],
    *,
    images: Sequence[ImageSource] = (),
    rival: Rival | None = None,
    progress: Progress = SILENT,
) -> BuildResult:
    """Builds an engine again for this machine, from the ONNX file and with the options that its manifest names.

    Raises:
        EngineError: No manifest, or the ONNX file is not there or not the same.
        Others: As `engine_from_onnx`.
    """
    plan = Path(plan)
    manifest = read_manifest(plan)
    onnx, stood = manifest.find_onnx(plan), manifest.onnx_path(plan)
    if onnx is None:
        raise EngineError(
            f"the ONNX file that {plan} was built from is not there",
            got="another file" if stood.is_file() else f"no {stood}",
            expected=f"{stood}, or {stood.name} beside the engine, with sha256 {manifest.onnx_sha256[:12]}…",
            hint=f"vitrify build MODEL.onnx -o {plan}",
        )
    config, gpu = manifest.config, gpu_or_none()
    if gpu is not None and gpu.compute_capability not in config.compute_capabilities:
        config = dataclasses.replace(config, compute_capabilities=())  # those of another machine
    return engine_from_onnx(onnx, plan, config=config, images=images, rival=rival, progress=progress)


def _measured_images(spec: ModelSpec, images: Sequence[ImageSource]) -> Iterator[npt.NDArray[np.float32]]:
    """What magnitudes are measured on: golden inputs, and some of the images."""
    yield golden_recipe_batch(spec.input_shape)
    picked = pick_evenly(images, _MEASURED_IMAGES)
    for start in range(0, len(picked), _MEASURED_BATCH):
        yield preprocess(picked[start : start + _MEASURED_BATCH], spec.preprocess)


def _manifest(
    built: BuiltPlan,
    trt: TensorRt,
    *,
    onnx: str,
    onnx_sha256: str,
    spec: ModelSpec,
    config: BuildConfig,
    gpu: Gpu | None,
) -> Manifest:
    return Manifest(
        onnx=onnx,
        onnx_sha256=onnx_sha256,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        plan_bytes=len(built.plan),
        spec=spec.replace(precision=built.precision),
        flavour=trt.release.flavour,
        tensorrt=trt.version,
        versions={"vitrify": __version__, "python": platform.python_version(), trt.module.__name__: trt.version},
        gpu=gpu,
        compute_capabilities=built.compute_capabilities,
        precision=built.precision,
        config=config,
        pinned=built.pinned,
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        build_seconds=round(built.seconds, 3),
        audit=built.audit,
    )


def _runs_here(built: BuiltPlan, trt: TensorRt, gpu: Gpu | None) -> bool:
    return gpu is not None and (trt.release.flavour == "full" or gpu.compute_capability in built.compute_capabilities)


def _verified(
    plan: Path,
    manifest: Manifest,
    trt: TensorRt,
    onnx: Path,
    *,
    images: Sequence[ImageSource],
    progress: Progress,
) -> Verification:
    """Runs the plan through the runtime that will run it later, against its source."""
    reference = _reference(onnx)
    if reference is None:
        progress.say("no ONNX runtime is installed: comparing golden vectors alone")
    verification = _beside(
        plan,
        manifest,
        lambda: verify_artifact(
            plan, reference=reference, images=images if reference else (), runtime="tensorrt", progress=progress
        ),
    )
    if reference is not None and sha256_of(onnx) != manifest.onnx_sha256:
        raise ArtifactError(f"{onnx} changed while its engine was built", hint="run the same command again")
    require_passed(verification.checks, "the engine", hint=_advice(manifest, trt))
    return verification


def _beside(plan: Path, manifest: Manifest, use: Callable[[], T]) -> T:
    """Runs something that opens the plan, which takes a manifest beside it."""
    beside = manifest_path(plan)
    try:
        beside.write_text(manifest.to_json(), encoding="utf-8")
        return use()
    finally:
        beside.unlink(missing_ok=True)


def _reference(onnx: Path) -> Path | None:
    try:
        runtimes_for(onnx)
    except MissingExtraError:
        return None
    return onnx


def _advice(manifest: Manifest, trt: TensorRt) -> str:
    if manifest.precision == "fp32":
        return "an fp32 engine that differs is a fault of TensorRT's: try another version, and leave --tf32 out"
    known = [text for precision, text in _NEXT[manifest.precision].items() if precision in trt.release.precisions]
    held = [] if manifest.config.hold_norms else ["leave --no-hold-norms out"]
    return "; ".join([*held, f"try {', or '.join(known)}", "nothing was written"])
