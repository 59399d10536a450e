"""Says whether an artifact, on this machine, still is the model that was exported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vitrify.errors import OptionError
from vitrify.pixels import ImageSource
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import RuntimeOptions, RuntimeRow, check_outputs, open_runtime, pick_runtime, runtimes_for
from vitrify.spec import Check, ModelSpec, Precision, Verification, golden_batch, golden_logits
from vitrify.verify.compare import (
    Answered,
    Candidate,
    Probe,
    answer,
    gate_for,
    infer_with,
    judge,
    standard_probes,
)
from vitrify.verify.record import record


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
            Without one, real images are compared between this artifact's runtimes, the first exact one being the truth.
        images: Real images.
        runtime: `all` that are installed and run such a file, or one by name.
        precision: Arithmetic that is judged.
        progress: Told of each batch.

    Returns:
        The measured record; whether it passed is in its checks.

    Raises:
        ArtifactError, SpecError: The artifact cannot be used.
        OptionError: There is nothing to compare with, or a runtime does not run this artifact.
        ImageError: An image cannot be read.
    """
    path = Path(path)
    rows = runtimes_for(path) if runtime == "all" else (pick_runtime(path, runtime),)
    rows = tuple(row for row in rows if precision in row.load().precisions)
    if not rows:
        raise OptionError(f"no runtime at hand runs {path.name} in {precision}", hint="leave --precision out")
    versions: dict[str, str] = {}
    checks: list[Check] = []
    spec: ModelSpec | None = None
    truths: tuple[Answered, ...] = ()
    machine = ""
    for row in rows:
        with open_runtime(path, row.name, RuntimeOptions(precision=precision)) as candidate:
            if spec is None:
                spec = candidate.spec
                check_outputs(candidate, spec)
                truths = _golden(spec)
                if reference is not None or images:
                    truth_path, truth_row = _truth(path, reference, rows)
                    with open_runtime(truth_path, truth_row.name, RuntimeOptions(like=spec)) as truth:
                        versions |= truth.versions()
                        probes = _probes(spec, images, only_images=reference is None)
                        truths += answer(infer_with(truth, truth.spec), probes, progress=progress)
            versions |= candidate.versions()
            machine = candidate.hardware
            arithmetic = spec.computed_in(precision)
            judged = Candidate(
                runtime=row.name, precision=arithmetic, infer=infer_with(candidate, spec), gate=gate_for(arithmetic)
            )
            checks += judge(judged, truths, progress=progress)
    if not checks:
        raise OptionError(
            f"there is nothing to compare {path.name} with",
            got="no golden vectors in it",
            expected="golden vectors, --reference or --images",
            hint=f"vitrify verify {path} --reference CHECKPOINT",
        )
    names = (["golden vectors"] if spec and spec.golden else []) + ([Path(reference).name] if reference else [])
    return record(" and ".join(names) or "its own fp32", checks, versions, machine=machine)


def _golden(spec: ModelSpec) -> tuple[Answered, ...]:
    if not spec.golden:
        return ()
    tensors = golden_batch(spec)
    probe = Probe(inputs="golden", batch=len(tensors), tensors=tensors)
    return (Answered(probe=probe, logits=golden_logits(spec)),)


def _probes(spec: ModelSpec, images: Sequence[ImageSource], *, only_images: bool) -> tuple[Probe, ...]:
    kinds = {"images"} if only_images else {"random", "images"}
    kinds |= set() if spec.golden else {"golden"}  # the golden vectors' answers are known already
    return tuple(probe for probe in standard_probes(spec, images) if probe.inputs in kinds)


def _truth(path: Path, reference: str | os.PathLike[str] | None, rows: Sequence[RuntimeRow]) -> tuple[Path, RuntimeRow]:
    if reference is None:
        return path, rows[-1]
    # ONNX Runtime is the exact one: OpenVINO chooses kernels by precision hints, and it is the one mostly judged.
    return Path(reference), runtimes_for(reference)[-1]
