"""Where a candidate leaves its reference: the same inputs through both, compared part by part."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import Artifact
from vitrify.errors import InputError, OptionError
from vitrify.pixels import ImageSource, preprocess
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import RuntimeRow, exact_runtime_for, pick_runtime, runtimes_for
from vitrify.spec import InputKind, ModelSpec, Precision, Result, golden_recipe_batch
from vitrify.text import for_shell
from vitrify.verification.artifact import source_of
from vitrify.verification.drift import DRIFT_TOLERANCES, DriftMeter, PartDrift
from vitrify.verification.metrics import Logits
from vitrify.verification.probed import Probed, open_probed

_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class LayerComparison:
    """One kind of input through one runtime and the reference.

    Attributes:
        runtime: The candidate's.
        precision: The candidate's arithmetic.
        inputs: What was fed.
        count: Images.
        tolerance: Largest relative error that a part may have.
        parts: In the network's order.
        first: The first part that left tolerance or is not finite; None where all hold.
        reference_probe_effect: Relative error of the reference's logits with probes against those without.
        candidate_probe_effect: Of the candidate's. Where one is above the tolerance, watching changed what is watched.
    """

    runtime: str
    precision: Precision
    inputs: InputKind
    count: int
    tolerance: float
    parts: tuple[PartDrift, ...]
    first: str | None
    reference_probe_effect: float
    candidate_probe_effect: float


@dataclass(frozen=True, kw_only=True)
class LayerReport(Result):
    """What a comparison part by part found.

    Attributes:
        artifact: What was judged.
        reference: What it was compared with.
        reference_runtime: What ran the reference.
        comparisons: One for each runtime and kind of input.
        only_reference: Parts that the artifact does not have.
        only_artifact: Parts that the reference does not have.
        other_shapes: Parts of both whose tensors have different shapes, with the shapes.
        notes: What the reader should know.
        passed: Whether every part of every comparison did.
    """

    artifact: str
    reference: str
    reference_runtime: str
    comparisons: tuple[LayerComparison, ...]
    only_reference: tuple[str, ...]
    only_artifact: tuple[str, ...]
    other_shapes: tuple[str, ...]
    notes: tuple[str, ...]
    passed: bool


def compare_layers(
    path: str | os.PathLike[str],
    *,
    reference: str | os.PathLike[str] | None = None,
    images: Sequence[ImageSource] = (),
    runtime: str = "all",
    reference_runtime: str = "auto",
    precision: Precision = "fp32",
    tolerance: float | None = None,
    progress: Progress = SILENT,
) -> LayerReport:
    """Compares what leaves each part of an artifact's network with the same of a reference.

    Args:
        path: An ONNX file, a checkpoint or an engine.
        reference: Another of them, of the same model, which is run in fp32; by default what the artifact was made from
            where that is at hand, or itself in the exact runtime.
        images: Real images, beside the golden inputs. They are read batch by batch.
        runtime: `all` that are installed and run such a file, or one by name.
        reference_runtime: `auto`, the exact one, or one by name.
        precision: Arithmetic that is judged.
        tolerance: Largest relative error of a part; by default `DRIFT_TOLERANCES` of the artifact's arithmetic.
        progress: Told of each batch.

    Raises:
        OptionError: Different models, no part in common, nothing to compare with, or a tolerance that is not positive.
        ImageError: An image cannot be read.
        Others: As `open_probed`.
    """
    path = Path(path)
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise OptionError("--tolerance is out of range", got=tolerance, expected="a relative error such as 0.01")
    truth_path = Path(reference) if reference is not None else _source(path)
    truth_row = (
        exact_runtime_for(truth_path) if reference_runtime == "auto" else pick_runtime(truth_path, reference_runtime)
    )
    rows = _rows(path, runtime, precision, beside=truth_row if truth_path == path else None)
    comparisons: list[LayerComparison] = []
    unmatched = _Unmatched()
    options = {"precision": precision, "like": _like(truth_path)}
    for row in rows:
        with (
            open_probed(path, row, options, progress=progress) as candidate,
            open_probed(truth_path, truth_row, {"like": candidate.spec}, progress=progress) as truth,
        ):
            truth.plain.artifact.require_same_model(
                candidate.plain.artifact, spec=truth.spec, other_spec=candidate.spec
            )
            arithmetic = candidate.spec.computed_in(precision)
            allowed = tolerance if tolerance is not None else DRIFT_TOLERANCES[arithmetic]
            for inputs, count, batches in _inputs(candidate.spec, images):
                label = f"{row.name} {arithmetic}: {inputs}"
                total = math.ceil(count / _BATCH)
                run = _compare(
                    truth, candidate, progress.track(batches(), label=label, total=total), allowed, unmatched
                )
                parts, effects = run
                comparisons.append(
                    LayerComparison(
                        runtime=row.name,
                        precision=arithmetic,
                        inputs=inputs,
                        count=count,
                        tolerance=allowed,
                        parts=parts,
                        first=next((part.part for part in parts if not part.passed), None),
                        reference_probe_effect=effects[0],
                        candidate_probe_effect=effects[1],
                    )
                )
    return LayerReport(
        artifact=str(path),
        reference=str(truth_path),
        reference_runtime=truth_row.name,
        comparisons=tuple(comparisons),
        only_reference=tuple(unmatched.only_reference),
        only_artifact=tuple(unmatched.only_artifact),
        other_shapes=tuple(unmatched.other_shapes),
        notes=tuple(_notes(comparisons)),
        passed=all(comparison.first is None for comparison in comparisons),
    )


class _Unmatched:
    """Parts that could not be compared, each once, in order."""

    def __init__(self) -> None:
        self.only_reference: dict[str, None] = {}
        self.only_artifact: dict[str, None] = {}
        self.other_shapes: dict[str, None] = {}


def _like(path: Path) -> ModelSpec | None:
    """A spec that tells a foreign checkpoint's labels; what is wrong with the reference shows when it is opened."""
    with contextlib.suppress(InputError):
        return Artifact.open(path).spec
    return None


def _source(path: Path) -> Path:
    """What an engine was built from; anything else is its own reference, in the exact runtime."""
    row = exact_runtime_for(path)
    if row.name != "tensorrt":
        return path
    source = source_of(path)
    if source is None:
        raise OptionError(
            f"there is nothing to compare {path.name} with",
            hint=f"vitrify verify {for_shell(path)} --layers --reference M.onnx",
        )
    return source


def _rows(path: Path, runtime: str, precision: Precision, *, beside: RuntimeRow | None) -> tuple[RuntimeRow, ...]:
    rows = runtimes_for(path) if runtime == "all" else (pick_runtime(path, runtime),)
    rows = tuple(row for row in rows if precision in row.load().precisions)
    if not rows:
        raise OptionError(f"no runtime at hand runs {path.name} in {precision}", hint="leave --precision out")
    if precision == "fp32":
        rows = tuple(row for row in rows if row != beside)  # nothing is compared with itself
    if not rows:
        raise OptionError(
            f"there is nothing to compare {path.name} with",
            got="the reference is the same file in the same runtime",
            expected="another artifact, runtime or precision",
            hint=f"vitrify verify {for_shell(path)} --layers --reference MODEL.onnx, or its checkpoint",
        )
    return rows


_Batches = Callable[[], Iterator[npt.NDArray[np.float32]]]


def _inputs(spec: ModelSpec, images: Sequence[ImageSource]) -> Iterator[tuple[InputKind, int, _Batches]]:
    golden = golden_recipe_batch(spec.input_shape)
    yield "golden", len(golden), lambda: iter([golden])
    if images:
        starts = range(0, len(images), _BATCH)
        yield (
            "images",
            len(images),
            lambda: (preprocess(images[start : start + _BATCH], spec.preprocess) for start in starts),
        )


def _compare(
    truth: Probed,
    candidate: Probed,
    batches: Iterator[npt.NDArray[np.float32]],
    tolerance: float,
    unmatched: _Unmatched,
) -> tuple[tuple[PartDrift, ...], tuple[float, float]]:
    meters: dict[str, DriftMeter] = {}
    effects = (DriftMeter("reference"), DriftMeter("candidate"))
    for tensors in batches:
        wanted, *logits = truth.infer(tensors)
        found, *others = candidate.infer(tensors)
        _keep_common_token(wanted, found)
        for effect, (probed, plain) in zip(effects, (logits, others), strict=True):
            effect.add(plain, probed)
        for part in _common(wanted, found, unmatched, truth, candidate):
            meters.setdefault(part, DriftMeter(part)).add(wanted[part], found[part])
        del wanted, found
    parts: list[PartDrift] = []
    for meter in meters.values():
        parts.append(meter.result(tolerance, before=parts[-1] if parts else None))
    measured = [effect.result(tolerance, before=None).relative_error for effect in effects]
    return tuple(parts), (measured[0], measured[1])


def _keep_common_token(wanted: dict[str, Logits], found: dict[str, Logits]) -> None:
    """Of a part where one side computes the class token alone, as an exported last block does, that token is compared.

    It is the first, in every ViT of timm's that classifies by it.
    """
    for part in wanted.keys() & found.keys():
        sides = wanted[part], found[part]
        if all(side.ndim == 3 for side in sides) and sides[0].shape[2] == sides[1].shape[2]:
            tokens = min(side.shape[1] for side in sides)
            if tokens == 1:
                wanted[part], found[part] = (side[:, :1] for side in sides)


def _common(
    wanted: dict[str, Logits], found: dict[str, Logits], unmatched: _Unmatched, truth: Probed, candidate: Probed
) -> list[str]:
    unmatched.only_reference.update(dict.fromkeys(part for part in wanted if part not in found))
    unmatched.only_artifact.update(dict.fromkeys(part for part in found if part not in wanted))
    common = [part for part in wanted if part in found]
    same = [part for part in common if wanted[part].shape == found[part].shape]
    for part in common:
        if part not in same:
            shapes = f"{list(wanted[part].shape[1:])} and {list(found[part].shape[1:])}"
            unmatched.other_shapes[f"{part}: {shapes}"] = None
    if not same:
        raise OptionError(
            f"{candidate.plain.path} and {truth.plain.path} have no part in common",
            got=", ".join(found) or "no parts",
            expected=", ".join(wanted) or "parts such as blocks.0",
            hint="compare artifacts of one model that vitrify export made, or the logits alone: leave --layers out",
        )
    return same


def _notes(comparisons: Sequence[LayerComparison]) -> Iterator[str]:
    for comparison in comparisons:
        for side, effect in (
            ("the reference", comparison.reference_probe_effect),
            (f"{comparison.runtime} {comparison.precision}", comparison.candidate_probe_effect),
        ):
            if effect > comparison.tolerance:
                yield (
                    f"on {comparison.inputs}, watching the parts changed the logits of {side} by {effect:.2g} "
                    f"(more than {comparison.tolerance:g}): other operators are fused, so that the parts shown are "
                    "not quite those of the artifact as it ships"
                )
