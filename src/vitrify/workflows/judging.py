"""Is a candidate accurate enough, and faster? Measured on images, in the runtime at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrify.classifier import pick_evenly
from vitrify.errors import RuntimeFailureError
from vitrify.files import atomic_path
from vitrify.graphs import write_artifact
from vitrify.machine import processor_name
from vitrify.pixels import ImageSource, preprocess
from vitrify.precision import Recipe, Rewriter
from vitrify.progress import Progress
from vitrify.runtimes import RuntimeOptions, has_native_bf16, infer_logits, open_runtime, pick_runtime
from vitrify.spec import Attempt, Check, ModelSpec, Precision, Verification, gate_for
from vitrify.verification import (
    Answered,
    Candidate,
    Logits,
    answer,
    describe,
    infer_with,
    judge,
    record,
    standard_probes,
)
from vitrify.workflows.limits import Limits
from vitrify.workflows.racing import Speed, Stopwatch, is_rival

IMAGE_BATCH = 8
"""Images prepared and run at once: what memory is taken for."""

RANKING_IMAGES = 32
VERIFIED_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A judged candidate.

    Attributes:
        attempt: What goes into the record.
        accurate: Whether it was accurate enough, whatever its speed.
        verification: Comparisons with the source, where it was accurate.
    """

    attempt: Attempt
    accurate: bool
    verification: Verification | None = None


class Judge:
    """Compares candidates with one source, whose answers are asked for once.

    Args:
        source: The fp32 file.
        calibration: Images that give magnitudes and ranges.
        images: Images that accuracy is judged on.
        labels: Their class indices; without, agreement with the source is judged.
        limits: What has to hold.
        runtime: `auto` or a runtime's name.
        batch: Images in one timed inference.
        threads: Of the runtime.
        progress: Told of each batch.

    Raises:
        OptionError: No such runtime.
        ImageError: An image cannot be read.
    """

    def __init__(
        self,
        source: Path,
        spec: ModelSpec,
        *,
        calibration: Sequence[ImageSource],
        images: Sequence[ImageSource],
        labels: Sequence[int] | None,
        limits: Limits,
        runtime: str,
        batch: int,
        threads: int | None,
        progress: Progress,
    ) -> None:
        self.source, self.spec, self.limits = source, spec, limits
        self.runtime, self.machine = pick_runtime(source, runtime).name, processor_name()
        self.askable: tuple[Precision, ...] = (
            ("fp32", "bf16") if self.runtime == "openvino" and has_native_bf16() else ("fp32",)
        )
        self._calibration, self._images = calibration, images
        self._labels = np.asarray(labels) if labels is not None else None
        self._threads, self._progress = threads, progress
        timed = preprocess([calibration[n % len(calibration)] for n in range(batch)], spec.preprocess)
        self._stopwatch = Stopwatch(runtime=self.runtime, tensors=timed, threads=threads)
        with open_runtime(source, "onnxruntime", RuntimeOptions(threads=threads)) as exact:
            infer = infer_with(exact, spec)
            self._versions = exact.versions()
            self._truth = np.concatenate([infer(batch) for batch in self._batches(images, "onnxruntime source")])
            self._golden = answer(infer, [probe for probe in standard_probes(spec) if probe.inputs == "golden"])
        self.sources = self._judge_sources()

    def calibration_batches(self) -> Iterator[npt.NDArray[np.float32]]:
        """The calibration images, prepared anew, a few at a time."""
        return self._batches(self._calibration, "calibrating")

    def judge(self, path: Path, recipe: Recipe) -> Tried:
        """Judges a candidate: answers where its types are followed exactly and in the runtime at hand, then speed.

        Args:
            path: The candidate.
            recipe: How it was made.
        """
        # An fp16 graph keeps its own types: asked for bf16, OpenVINO would compute that instead.
        asked: Precision = "bf16" if "bf16" in self.askable and recipe.precision != "fp16" else "fp32"
        attempt = Attempt(
            recipe=str(recipe), precision=recipe.precision, asked=asked, agreement=0, relative_error=1e30, passed=False
        )
        try:
            found = [self._logits(path, *way, str(recipe)) for way in self._ways(recipe, asked)]
        except RuntimeFailureError as error:
            return Tried(attempt=dataclasses.replace(attempt, reason=f"{error.what}: {error.got}"), accurate=False)
        worst = min(found, key=lambda logits: (self._top1(logits) or 0.0, self._agreement(logits)))
        attempt = dataclasses.replace(
            attempt,
            top1=self._top1(worst),
            agreement=self._agreement(worst),
            relative_error=max(map(self._error, found)),
            reason=next(filter(None, map(self._inaccurate, found)), ""),
        )
        if attempt.reason:
            return Tried(attempt=attempt, accurate=False)
        verification = self._verified(path, recipe, asked)
        failed = [check for check in verification.checks if not check.passed]
        if failed:
            return Tried(attempt=dataclasses.replace(attempt, reason=describe(failed[0])), accurate=False)
        if self.limits.min_speedup is not None:
            attempt = self._timed_attempt(attempt, path)
        return Tried(
            attempt=dataclasses.replace(attempt, passed=not attempt.reason), accurate=True, verification=verification
        )

    def rank(self, rewriter: Rewriter, recipe: Recipe, folder: Path) -> list[str]:
        """The blocks of a network, the one first that a recipe harms most when it alone is rewritten.

        Args:
            rewriter: Carries out recipes.
            recipe: What harms.
            folder: For temporary files.
        """
        # Evenly: a folder is sorted by class.
        picked = pick_evenly(range(len(self._images)), RANKING_IMAGES)
        images = preprocess([self._images[n] for n in picked], self.spec.preprocess)
        truth = self._truth[list(picked)]
        harm: dict[str, float] = {}
        for block in self._progress.track(rewriter.blocks, label="which block suffers most"):
            others = tuple(other for other in rewriter.blocks if other != block)
            rewritten = rewriter.rewrite(dataclasses.replace(recipe, keep=others))
            path = folder / "one-block.onnx"
            with atomic_path(path) as temporary:
                write_artifact(
                    rewritten.proto, self.spec.replace(precision=recipe.precision, verification=None), temporary
                )
            try:
                with open_runtime(path, _exact(recipe), RuntimeOptions(threads=self._threads)) as runtime:
                    batches = (images[start : start + IMAGE_BATCH] for start in range(0, len(images), IMAGE_BATCH))
                    logits = np.concatenate([infer_logits(runtime, runtime.spec, batch) for batch in batches])
            except RuntimeFailureError:  # a block that no runtime takes in this form suffers most
                harm[block] = float(np.inf)
                continue
            error = np.nan_to_num(logits.astype(np.float64) - truth, nan=1e9, posinf=1e9, neginf=-1e9)
            harm[block] = float(np.square(error).mean())
        return sorted(harm, key=lambda block: -harm[block])

    def _judge_sources(self) -> tuple[Attempt, ...]:
        """The source itself in every precision that the runtime has here."""
        turns = self._stopwatch.time({asked: (self.source, asked) for asked in self.askable})
        rows = []
        for asked in self.askable:
            exact = (self.runtime, asked) == ("onnxruntime", "fp32")
            logits = self._truth if exact else self._logits(self.source, self.runtime, asked, f"source {asked}")
            reason = self._inaccurate(logits)
            rows.append(
                Attempt(
                    recipe="source",
                    precision="fp32",
                    asked=asked,
                    top1=self._top1(logits),
                    agreement=self._agreement(logits),
                    relative_error=self._error(logits),
                    latency_ms=turns.median_ms(asked),
                    passed=not reason,
                    reason=reason,
                )
            )
        return tuple(rows)

    def _ways(self, recipe: Recipe, asked: Precision) -> list[tuple[str, Precision]]:
        # OpenVINO on a CPU computes fp16 graphs in fp32 and would not see an overflow; ONNX Runtime follows the types.
        return list(dict.fromkeys([(_exact(recipe), "fp32"), (self.runtime, asked)]))

    def _logits(self, path: Path, runtime: str, asked: Precision, label: str) -> Logits:
        with open_runtime(path, runtime, RuntimeOptions(precision=asked, threads=self._threads)) as opened:
            spec = opened.spec
            return np.concatenate(
                [infer_logits(opened, spec, batch) for batch in self._batches(self._images, f"{runtime} {label}")]
            )

    def _batches(self, images: Sequence[ImageSource], label: str) -> Iterator[npt.NDArray[np.float32]]:
        for start in self._progress.track(range(0, len(images), IMAGE_BATCH), label=label):
            yield preprocess(images[start : start + IMAGE_BATCH], self.spec.preprocess)

    def _top1(self, logits: Logits) -> float | None:
        if self._labels is None:
            return None
        finite = np.isfinite(logits).all(axis=1)
        return float((finite & (logits.argmax(axis=1) == self._labels)).mean())

    def _agreement(self, logits: Logits) -> float:
        finite = np.isfinite(logits).all(axis=1)
        return float((finite & (logits.argmax(axis=1) == self._truth.argmax(axis=1))).mean())

    def _error(self, logits: Logits) -> float:
        if not np.isfinite(logits).all():
            return 1e30  # JSON has no infinity
        scale = np.abs(self._truth).max(axis=1, keepdims=True)
        return float((np.abs(logits - self._truth) / np.maximum(scale, np.finfo(np.float32).tiny)).max())

    def _inaccurate(self, logits: Logits) -> str:
        """What is wrong with answers, or nothing."""
        lost = float((~np.isfinite(logits).all(axis=1)).mean())
        if lost:
            return f"logits that are no numbers on {lost:.0%} of the images"
        top1, truth = self._top1(logits), self._top1(self._truth)
        if top1 is not None and truth is not None:
            # Compared as counts of images: 0.5% of 200 images is one image, whatever binary fractions make of it.
            drop = round((truth - top1) * len(logits))
            allowed = self.limits.max_drop * len(logits)
            return f"{100 * (truth - top1):.2f} points of top-1 lost" if drop > allowed + 1e-9 else ""
        agreement = self._agreement(logits)
        return f"{agreement:.2%} of the source's answers" if agreement < self.limits.min_agreement - 1e-9 else ""

    def _verified(self, path: Path, recipe: Recipe, asked: Precision) -> Verification:
        # What the source says to these images is known: it is not asked again.
        picked = pick_evenly(range(len(self._images)), VERIFIED_IMAGES)
        probes = standard_probes(self.spec, [self._images[n] for n in picked])
        real = next(probe for probe in probes if probe.inputs == "images")
        truths = (*self._golden, Answered(probe=real, logits=self._truth[list(picked)]))
        checks: list[Check] = []
        versions = dict(self._versions)
        for name, precision in self._ways(recipe, asked):
            with open_runtime(path, name, RuntimeOptions(precision=precision, threads=self._threads)) as runtime:
                versions |= runtime.versions()
                computed = runtime.spec.computed_in(precision)
                candidate = Candidate(
                    runtime=name,
                    precision=computed,
                    infer=infer_with(runtime, runtime.spec),
                    gate=gate_for(computed, runtime.spec.precision),
                )
                checks += judge(candidate, truths, progress=self._progress)
        return record(f"{self.source.name} fp32", checks, versions)

    def _timed_attempt(self, attempt: Attempt, path: Path) -> Attempt:
        rivals = {
            f"source {row.asked}": (self.source, row.asked)
            for row in self.sources
            if is_rival(row, self.sources[0], images=len(self._images), limits=self.limits)
        }
        turns = self._stopwatch.time({"candidate": (path, attempt.asked), **rivals})
        speed = Speed.of(turns, "candidate", rivals)
        return dataclasses.replace(
            attempt,
            latency_ms=speed.latency_ms,
            speedup=speed.speedup,
            speedup_low=speed.low,
            reason=speed.refusal(self.limits.min_speedup or 1.0),
        )


def _exact(recipe: Recipe) -> str:
    """The runtime that follows a graph's types to the letter; ONNX Runtime has no bf16 on a CPU."""
    return "openvino" if "bf16" in (recipe.precision, recipe.around) else "onnxruntime"
