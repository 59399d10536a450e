"""`vitrify quantize`: an fp32 ONNX file to one in a lower precision that is accurate enough and faster, or to none."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from vitrify.artifacts import Artifact
from vitrify.classifier import pick_evenly
from vitrify.datasets import scan_folder
from vitrify.errors import ArtifactError, GateError, OptionError
from vitrify.files import require_writable
from vitrify.graphs import place_artifact
from vitrify.pixels import ImageSource
from vitrify.precision import FALLBACKS, Recipe, Rewriter, Target
from vitrify.progress import SILENT, Progress, in_words
from vitrify.runtimes import RUNTIMES, pick_runtime
from vitrify.spec import MIN_IMAGES, ModelSpec, PrecisionSearch, Result
from vitrify.verification import class_columns
from vitrify.workflows.quantize.judge import CROP_BYTES, Crops, Judge, identity
from vitrify.workflows.quantize.limits import Budget, Limits
from vitrify.workflows.quantize.report import search_notes
from vitrify.workflows.quantize.search import Search


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
        time_s: Seconds after which the search ends, with what it has; None for as long as it takes.
        crop_bytes: Of images that are kept as they are cropped; those that find no room are decoded each time.
    """

    recipe: Recipe
    fallback: bool = True
    limits: Limits = field(default_factory=Limits)
    runtime: str = "auto"
    batch: int = 1
    threads: int | None = None
    time_s: float | None = None
    crop_bytes: int = CROP_BYTES

    def __post_init__(self) -> None:
        if self.time_s is not None and not self.time_s > 0:
            raise OptionError("a search without time", got=f"{self.time_s:g} s", expected="more than 0 seconds")


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
            GateError: With the reason of the last candidate.
        """
        if self.path is not None:
            return
        candidates = [attempt for attempt in self.search.attempts if attempt.recipe != "source"]
        last = f"none was tried: {self.search.stopped}"
        if candidates:
            last = f"{candidates[-1].recipe}: {candidates[-1].reason}"
        hint = f"deploy {source} as it is; the report has every attempt"
        if any(attempt.speedup is not None for attempt in candidates):
            hint += "; for another machine: --no-judge-speed"
        if self.search.stopped:
            hint = "give it more --time, or fewer images: --max-images, --calibration-images"
        raise GateError(
            f"no lower precision of {source} held its gates"
            + (f" within {in_words(self.search.time_s)}" if self.search.stopped and self.search.time_s else "")
            + "; nothing was written",
            got=last,
            expected=_expected(self.search),
            hint=hint,
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
        attempted: Called with the search so far, at its beginning, when the source was judged and after each candidate:
            what was measured is not lost where the search or the writing of its artifact fails.
        progress: Told of each step.

    Returns:
        What was found and every attempt; `path` is None where nothing held before the time was over.

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
    notes += judging_notes(calibration, images)
    artifact = Artifact.open(source)
    spec, data = artifact.spec, artifact.content
    try:
        proto = onnx.load_from_string(data)
    except DecodeError as error:
        raise ArtifactError(f"{source} is no ONNX model", got=error) from error
    budget = Budget(progress, config.time_s)
    crops = Crops(spec.preprocess, limit_bytes=config.crop_bytes)
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
        crops=crops,
        budget=budget,
    )
    batches = partial(crops.batches, calibration, label="calibrating", budget=budget)
    rewriter = Rewriter(proto, batches, threads=config.threads, progress=budget)
    rewriter.require_parts(config.recipe.keep)  # before anything is measured
    search = Search(
        rewriter,
        judge,
        PrecisionSearch(
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
            confidence=config.limits.confidence,
            time_s=config.time_s,
            attempts=(),
        ),
        calibration=len(calibration),
        budget=budget,
        attempted=attempted,
    )
    attempted(search.record)
    found = search.run(config.recipe, targets)
    if found is not None:
        place_artifact(found.rewritten.proto, found.spec, output)
        notes += found.rewritten.notes
    return QuantizeResult(
        path=output if found is not None else None,
        search=search.record,
        spec=found.spec if found is not None else None,
        size_bytes=output.stat().st_size if found is not None else 0,
        source_bytes=len(data),
        notes=(*notes, *search_notes(search.record)),
    )


def require_usable(
    source: Path,
    output: Path,
    *,
    calibration: Sequence[ImageSource],
    images: Sequence[ImageSource],
    labels: Sequence[int] | None,
) -> None:
    """Refuses files that cannot be read or written, and too few images.

    Args:
        source: What is to be rewritten.
        output: Where to.
        calibration: At least `MIN_IMAGES`.
        images: What accuracy is judged on, at least as many; none, where that is `calibration`.
        labels: One for each of `images`.

    Raises:
        OptionError, ArtifactError, StorageError: Names what is wrong.
    """
    if source.suffix != ".onnx" or output.suffix != ".onnx":
        raise OptionError(
            f"cannot quantize {source} to {output}", expected="two .onnx files", hint="vitrify export makes one"
        )
    if not source.is_file():
        raise ArtifactError(f"no such file: {source}", hint="check the path")
    if output.exists() and output.samefile(source):
        raise OptionError(f"{output} would replace its own source", hint="name another file")
    if output.is_dir():
        raise OptionError(f"{output} is a directory", expected="a file name", hint=f"name a file in {output}/")
    require_writable(output)
    if len(calibration) < MIN_IMAGES:
        raise OptionError(
            "too few calibration images",
            got=len(calibration),
            expected=f"at least {MIN_IMAGES}",
            hint="some hundred that look like those to come, such as a part of the training images",
        )
    if labels is not None and (len(labels) != len(images) or not images):
        raise OptionError("images and labels differ in number", got=f"{len(images)} and {len(labels)}")
    if images and len(images) < MIN_IMAGES:
        raise OptionError(
            "too few images to judge accuracy on",
            got=len(images),
            expected=f"at least {MIN_IMAGES}",
            hint="some hundred; the report says how many would tell",
        )


def targets_here(source: Path, recipe: Recipe, *, fallback: bool, runtime: str) -> tuple[tuple[Target, ...], list[str]]:
    """The precisions that can be tried with what is installed, and notes on those that cannot.

    ONNX Runtime gives the source's answers and measures ranges. bf16 needs OpenVINO: no other runtime has it on a CPU.

    Args:
        source: What is to be rewritten.
        recipe: What to begin with.
        fallback: Whether the next higher precisions follow.
        runtime: What is to judge, or `auto`.

    Raises:
        MissingExtraError: What was asked for cannot be tried: names the package.
        OptionError: No such runtime.
    """
    rows = {row.name: row for row in RUNTIMES}
    rows["onnxruntime"].load()
    pick_runtime(source, runtime).load()
    targets = FALLBACKS[recipe.precision] if fallback else (recipe.precision,)
    if rows["openvino"].installed:
        return targets, []
    if "bf16" in (recipe.precision, recipe.around):
        rows["openvino"].load()
    left = tuple(target for target in targets if target != "bf16")
    note = "bf16 was not tried: OpenVINO, the one runtime that has it on a CPU, is not installed"
    return left, [note] if left != targets else []


def judging_notes(calibration: Sequence[ImageSource], images: Sequence[ImageSource]) -> list[str]:
    """What weakens the verdict on accuracy: images that were calibrated on.

    Args:
        calibration: What ranges were measured on.
        images: What accuracy was judged on; none, where that is `calibration`.
    """
    notes = []
    seen = {identity(image) for image in calibration}
    shared = sum(identity(image) in seen for image in images)
    if not images:
        notes.append("accuracy was judged on the calibration images themselves, which flatters: give others")
    elif shared:
        notes.append(f"{shared} of the {len(images)} judged images were calibrated on too, which flatters")
    return notes


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


def _expected(search: PrecisionSearch) -> str:
    accuracy = (
        f"at most {100 * search.max_drop:g} points of top-1 lost"
        if search.max_drop is not None
        else f"{search.min_agreement:.0%} of the source's answers"
    )
    return accuracy + (f", {search.min_speedup:g} times as fast" if search.min_speedup is not None else "")
