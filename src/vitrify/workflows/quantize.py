"""`vitrify quantize`: an fp32 ONNX file to one in a lower precision that is accurate enough and faster, or to none."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from google.protobuf.message import DecodeError

from vitrify.artifacts import Artifact
from vitrify.classifier import pick_evenly
from vitrify.datasets import scan_folder
from vitrify.errors import ArtifactError, GateError
from vitrify.files import atomic_path
from vitrify.graphs import place_artifact, saturating_products, write_artifact
from vitrify.pixels import ImageSource
from vitrify.precision import Recipe, Rewriter, Rewritten, Target, steps
from vitrify.progress import SILENT, Progress
from vitrify.spec import Attempt, ModelSpec, PrecisionSearch, Result
from vitrify.verification import class_columns
from vitrify.workflows.judging import Judge
from vitrify.workflows.limits import Limits
from vitrify.workflows.preconditions import judging_notes, require_usable, targets_here


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """How to look for a lower precision.

    Attributes:
        recipe: What to begin with.
        fallback: Whether lower precisions that do not hold are followed by the next higher one.
        limits: What has to hold.
        runtime: What runs the candidates: `auto`, `openvino` or `onnxruntime`.
        batch: Images in one timed inference.
        threads: Of the runtime.
    """

    recipe: Recipe
    fallback: bool = True
    limits: Limits = field(default_factory=Limits)
    runtime: str = "auto"
    batch: int = 1
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class QuantizeResult(Result):
    """What a search found.

    Attributes:
        path: The artifact; None where no candidate held.
        search: Every attempt.
        spec: Of the artifact.
        size_bytes: Of the artifact, 0 where there is none.
        source_bytes: Of the fp32 file.
        notes: What the user should know.
    """

    path: Path | None
    search: PrecisionSearch
    spec: ModelSpec | None
    size_bytes: int
    source_bytes: int
    notes: tuple[str, ...]

    def require_found(self, source: Path) -> None:
        """Refuses a search that found nothing.

        Raises:
            GateError: With the reason of the last attempt.
        """
        if self.path is None:
            last = self.search.attempts[-1]
            raise GateError(
                f"no lower precision of {source} held its gates; nothing was written",
                got=f"{last.recipe}: {last.reason}",
                expected=_expected(self.search),
                hint=f"deploy {source} as it is; the report has every attempt",
            )


def quantized_from_onnx(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    calibration: Sequence[ImageSource],
    config: QuantizeConfig,
    images: Sequence[ImageSource] = (),
    labels: Sequence[int] | None = None,
    attempted: Callable[[PrecisionSearch], object] = lambda search: None,
    progress: Progress = SILENT,
) -> QuantizeResult:
    """Tries recipes until one is accurate enough and faster than its source; only that one is written.

    Args:
        source: An fp32 ONNX file with a spec.
        output: The ONNX file to write.
        calibration: At least 32 images that look like those to come; magnitudes and ranges are measured on them.
        config: How to look.
        images: What accuracy is judged on, at least 32; by default the calibration images.
        labels: The class index of each of `images`; without, answers are compared with the source's.
        attempted: Called with the search so far, when the source was judged and after each candidate: what was measured
            is not lost where the search or the writing of its artifact fails.
        progress: Told of each step.

    Returns:
        What was found and every attempt; `path` is None where nothing held.

    Raises:
        OptionError: Too few images, a graph that has a lower precision already, or another suffix.
        ArtifactError, SpecError: The source cannot be used.
        ImageError: An image cannot be read.
        MissingExtraError: A runtime that the search cannot do without is not installed.
        StorageError: The file cannot be written; told before the search where that shows.
    """
    source, output = Path(source), Path(output)
    require_usable(source, output, calibration=calibration, images=images, labels=labels)
    targets, notes = targets_here(source, config.recipe, fallback=config.fallback, runtime=config.runtime)
    notes += judging_notes(calibration, images, labels=labels, limits=config.limits)
    artifact = Artifact.open(source)
    spec, data = artifact.spec, artifact.content
    try:
        proto = onnx.load_from_string(data)
    except DecodeError as error:
        raise ArtifactError(f"{source} is no ONNX model", got=error) from error
    rewriter = Rewriter(
        proto,
        lambda: judge.calibration_batches(),  # noqa: PLW0108 - the judge comes after
        threads=config.threads,
        progress=progress,
    )
    rewriter.require_parts(config.recipe.keep)  # before anything is measured
    judge = Judge(
        source,
        spec,
        calibration=calibration,
        images=images or calibration,
        labels=labels,
        limits=config.limits,
        runtime=config.runtime,
        batch=config.batch,
        threads=config.threads,
        progress=progress,
    )
    search = PrecisionSearch(
        source_sha256=artifact.sha256,
        target=config.recipe.precision,
        runtime=judge.runtime,
        machine=judge.machine,
        batch=config.batch,
        images=len(images or calibration),
        calibration_images=len(calibration),
        max_drop=config.limits.max_drop if labels is not None else None,
        min_agreement=config.limits.min_agreement if labels is None else None,
        min_speedup=config.limits.min_speedup,
        attempts=judge.sources,
    )
    attempted(search)
    found, search = _search(
        rewriter, judge, search, begin=config.recipe, targets=targets, attempted=attempted, progress=progress
    )
    if found is None:
        return QuantizeResult(
            path=None, search=search, spec=None, size_bytes=0, source_bytes=len(data), notes=tuple(notes)
        )
    rewritten, final = found
    place_artifact(rewritten.proto, final, output)
    return QuantizeResult(
        path=output,
        search=search,
        spec=final,
        size_bytes=output.stat().st_size,
        source_bytes=len(data),
        notes=(*notes, *rewritten.notes),
    )


def labelled_images(model: str | os.PathLike[str], data: Path, limit: int) -> tuple[list[ImageSource], list[int]]:
    """Images of a labelled folder, and for each the index of its class among the model's labels.

    Args:
        model: An artifact with a spec.
        data: `data/<class>/*`, or a folder with `val/` in it.
        limit: Take at most this many, evenly spread.

    Raises:
        DatasetError: No labelled images, or a class that the model does not know.
        SpecError, ArtifactError: The model cannot be used.
    """
    labels = Artifact.open(model).spec.labels
    root = data / "val" if (data / "train").is_dir() and (data / "val").is_dir() else data
    folder = scan_folder(root, minimum_classes=1)
    columns = class_columns(folder, labels, model)
    picked = pick_evenly(list(range(len(folder))), limit)
    return [folder.paths[n] for n in picked], [columns[folder.samples[n][1]] for n in picked]


def _search(
    rewriter: Rewriter,
    judge: Judge,
    search: PrecisionSearch,
    *,
    begin: Recipe,
    targets: Sequence[Target],
    attempted: Callable[[PrecisionSearch], object],
    progress: Progress,
) -> tuple[tuple[Rewritten, ModelSpec] | None, PrecisionSearch]:
    """The first candidate that holds, with its spec, and the search with every attempt."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for target in targets:
            first = dataclasses.replace(begin, precision=target)
            if target in ("fp16", "bf16"):
                first = dataclasses.replace(first, around="fp32", split_qkv=False, keep_attention=False)
            for recipe in steps(first, lambda recipe: judge.rank(rewriter, recipe, folder)):
                progress.say(f"trying {recipe}")
                rewritten = rewriter.rewrite(recipe)
                spec = _described(judge.spec, recipe).replace(
                    saturation_free=recipe.precision == "int8" and not saturating_products(rewritten.proto)
                )
                path = folder / "candidate.onnx"
                with atomic_path(path) as temporary:
                    write_artifact(rewritten.proto, spec, temporary)
                tried = judge.judge(path, recipe)
                progress.say(f"  {_said(tried.attempt)}")
                search = dataclasses.replace(search, attempts=(*search.attempts, tried.attempt))
                if tried.attempt.passed:
                    search = dataclasses.replace(search, smoothed=tuple(s.module for s in rewritten.smoothed))
                attempted(search)
                if tried.attempt.passed:
                    final = spec.replace(precision_search=search, verification=tried.verification)
                    return (rewritten, final), search
                if tried.accurate:
                    break  # a more careful recipe of this precision would be slower still
    return None, search


def _described(spec: ModelSpec, recipe: Recipe) -> ModelSpec:
    dtype = "float16" if recipe.narrow and recipe.precision == "fp16" else spec.input.dtype
    return spec.replace(
        precision=recipe.precision, verification=None, input=dataclasses.replace(spec.input, dtype=dtype)
    )


def _said(attempt: Attempt) -> str:
    told = [f"top-1 {attempt.top1:.2%}"] if attempt.top1 is not None else []
    told += [f"agreement {attempt.agreement:.2%}"]
    if attempt.speedup is not None:
        told += [f"{attempt.speedup:.2f} times as fast"]
    return ", ".join(told) + (": taken" if attempt.passed else f": {attempt.reason}")


def _expected(search: PrecisionSearch) -> str:
    accuracy = (
        f"at most {100 * search.max_drop:g} points of top-1 lost"
        if search.max_drop is not None
        else f"{search.min_agreement:.0%} of the source's answers"
    )
    return accuracy + (f", {search.min_speedup:g} times as fast" if search.min_speedup is not None else "")
