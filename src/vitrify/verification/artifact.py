"""Says whether an artifact, on this machine, still is the model that was exported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from vitrify.artifacts import Artifact
from vitrify.errors import MissingExtraError, OptionError
from vitrify.pixels import ImageSource
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import (
    RuntimeRow,
    check_outputs,
    exact_runtime_for,
    open_runtime,
    pick_runtime,
    runtimes_for,
)
from vitrify.spec import Check, ModelSpec, Precision, Verification, gate_for, golden_batch, golden_logits
from vitrify.text import for_shell
from vitrify.verification.compare import (
    Answered,
    Candidate,
    Probe,
    answer,
    infer_with,
    judge,
    standard_probes,
)
from vitrify.verification.record import record


def verify_artifact(
    path: str | os.PathLike[str],
    *,
    reference: str | os.PathLike[str] | None = None,
    images: Sequence[ImageSource] = (),
    runtime: str = "all",
    precision: Precision = "fp32",
    progress: Progress = SILENT,
) -> Verification:
    """Compares an artifact with the golden vectors it carries and, where there is one, with a reference.

    Args:
        path: The artifact.
        reference: A checkpoint or another artifact; its logits are the truth for golden, random and real inputs.
            Without one, real images are compared with what this artifact was made from, where that is at hand, or
            between its runtimes; nothing is compared with itself.
        images: Real images.
        runtime: `all` that are installed and run such a file, or one by name.
        precision: Arithmetic that is judged.
        progress: Told of each batch.

    Returns:
        The measured record; whether it passed is in its checks.

    Raises:
        ArtifactError, SpecError: The artifact cannot be used, or is not the file that was written.
        OptionError: There is nothing to compare with, or a runtime does not run this artifact.
        ImageError: An image cannot be read.
    """
    path = Path(path)
    Artifact.open(path).require_intact()
    rows = runtimes_for(path) if runtime == "all" else (pick_runtime(path, runtime),)
    named, rows = rows, tuple(row for row in rows if precision in row.load().precisions)
    if not rows:
        have = dict.fromkeys(name for row in named for name in row.load().precisions)
        raise OptionError(
            f"no runtime at hand runs {path.name} in {precision}",
            expected=" or ".join(have),
            hint=f"--precision {next(iter(have))}",
        )
    versions: dict[str, str] = {}
    checks: list[Check] = []
    spec: ModelSpec | None = None
    truths: tuple[Answered, ...] = ()
    truth_row: RuntimeRow | None = None
    machine, source = "", Path(reference) if reference is not None else None
    for row in rows:
        with open_runtime(path, row.name, precision=precision) as candidate:
            if spec is None:
                spec = candidate.spec
                check_outputs(candidate, spec)
                truths = _golden(spec)
                if reference is not None or images:
                    source = source or source_of(path)
                    truth_path, truth_row = _truth(path, source, rows, precision)
                    with open_runtime(truth_path, truth_row.name, **truth_row.understood(like=spec)) as truth:
                        versions |= truth.versions()
                        probes = _probes(spec, images, candidate.describe().batch_sizes, only_images=source is None)
                        truths += answer(infer_with(truth, truth.spec), probes, progress=progress)
            versions |= candidate.versions()
            machine = candidate.hardware
            arithmetic = spec.computed_in(precision)
            judged = Candidate(
                runtime=row.name,
                precision=arithmetic,
                infer=infer_with(candidate, spec),
                gate=gate_for(arithmetic, spec.precision),
            )
            itself = source is None and truth_row == row and precision == "fp32"
            checks += judge(judged, _golden(spec) if itself else truths, progress=progress)
    if not checks:
        raise OptionError(
            f"there is nothing to compare {path.name} with",
            got="no golden vectors in it",
            expected="golden vectors, --reference or --images",
            hint=f"vitrify verify {for_shell(path)} --reference CHECKPOINT",
        )
    names = (["golden vectors"] if spec and spec.golden else []) + ([source.name] if source else [])
    return record(" and ".join(names) or "its own fp32", checks, versions, machine=machine)


def source_of(path: Path) -> Path | None:
    """The file that an engine was made from, where it is at hand with the same bytes, and can be run."""
    artifact = Artifact.open(path)
    onnx = artifact.manifest.find_onnx(path) if artifact.kind == "engine" else None
    with contextlib.suppress(MissingExtraError):
        return onnx if onnx is not None and runtimes_for(onnx) else None
    return None


def _golden(spec: ModelSpec) -> tuple[Answered, ...]:
    if not spec.golden:
        return ()
    tensors = golden_batch(spec)
    probe = Probe(inputs="golden", batch=len(tensors), tensors=tensors)
    return (Answered(probe=probe, logits=golden_logits(spec)),)


def _probes(
    spec: ModelSpec, images: Sequence[ImageSource], batches: Sequence[int], *, only_images: bool
) -> tuple[Probe, ...]:
    kinds = {"images"} if only_images else {"random", "images"}
    kinds |= set() if spec.golden else {"golden"}  # the golden vectors' answers are known already
    return tuple(probe for probe in standard_probes(spec, images, batches) if probe.inputs in kinds)


def _truth(
    path: Path, source: Path | None, rows: Sequence[RuntimeRow], precision: Precision
) -> tuple[Path, RuntimeRow]:
    if source is not None:
        return source, exact_runtime_for(source)
    exact = runtimes_for(path)
    if precision == "fp32" and tuple(rows) == exact[-1:]:
        exact = exact[:-1]  # the exact one is what is judged
    if not exact:
        raise OptionError(
            f"there is nothing to compare {path.name} with on images",
            got=f"one runtime, {rows[0].name}, and no file that it was made from",
            expected="--reference",
            hint=f"vitrify verify {for_shell(path)} --reference MODEL.onnx, or its checkpoint",
        )
    return path, exact[-1]
