"""Is a candidate accurate enough, and faster? Measured on images, in the runtime at hand."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrify.classifier import pick_evenly
from vitrify.errors import RuntimeFailureError
from vitrify.machine import processor_name
from vitrify.pixels import ImageSource, preprocess
from vitrify.pixels.batches import value_table
from vitrify.precision import Recipe
from vitrify.runtimes import has_native_bf16, infer_logits, open_runtime, pick_runtime
from vitrify.spec import Attempt, Check, ModelSpec, Precision, Preprocess, Verification, gate_for
from vitrify.timing import SETTLING_CALLS, Speed
from vitrify.verification import (
    Answered,
    Candidate,
    Logits,
    answer,
    check_logits,
    describe,
    infer_with,
    judge,
    record,
    standard_probes,
)
from vitrify.workflows.quantize.limits import Budget, Limits, Loss
from vitrify.workflows.races import time_files

IMAGE_BATCH = 8
"""Images prepared and run at once: what memory is taken for."""

CROP_BYTES = 1 << 30
"""1 GiB: 7,133 images of 224x224."""

RANKING_IMAGES = 32
VERIFIED_IMAGES = 256


class Crops:
    """Images that are decoded once, and kept as they are cropped: a quarter of the memory of their tensors.

    Tensors are bit for bit those of `preprocess`; an image is decoded again only where it found no room. What is
    normalised has 8 bits, so that a crop is kept in 8 bits and looked up in the table of its 256 values.

    Args:
        spec: How images are prepared.
        limit_bytes: Of all that is kept. What comes first stays: images are gone through in the same order each time,
            where throwing out the oldest would throw out what is needed next.
    """

    def __init__(self, spec: Preprocess, *, limit_bytes: int = CROP_BYTES) -> None:
        self._spec, self._left = spec, limit_bytes
        self._values = value_table(spec)
        self._kept: dict[Hashable, npt.NDArray[np.uint8]] = {}

    def tensors(self, images: Sequence[ImageSource]) -> npt.NDArray[np.float32]:
        """Prepares a batch.

        Args:
            images: Objects that stay as they are while this is used.

        Returns:
            `[B, 3, crop_height, crop_width]` float32 NCHW RGB.

        Raises:
            ImageError: One of the images cannot be read; the message names it.
        """
        names = [identity(image) for image in images]
        missing = [n for n, name in enumerate(names) if name not in self._kept]
        prepared = preprocess([images[n] for n in missing], self._spec)
        if len(missing) == len(images):
            batch = prepared
        else:
            batch = np.empty((len(images), *prepared.shape[1:]), np.float32)
            batch[missing] = prepared
        for n, name in enumerate(names):
            if n in missing:
                self._keep(name, batch[n])
            else:
                for channel, values, crop in zip(batch[n], self._values, self._kept[name], strict=True):
                    np.take(values, crop, out=channel, mode="clip")
        return batch

    def batches(
        self, images: Sequence[ImageSource], *, label: str, budget: Budget
    ) -> Iterator[npt.NDArray[np.float32]]:
        """The tensors of all images, a few at a time.

        Args:
            images: As in `tensors`.
            label: What a bar says.
            budget: Told of each batch, and ends the work when the time is over.

        Raises:
            ImageError: As in `tensors`.
            TimeIsOverError: The time is over.
        """
        for start in budget.track(range(0, len(images), IMAGE_BATCH), label=label):
            batch = self.tensors(images[start : start + IMAGE_BATCH])
            yield batch
            budget.work.advance(len(batch))

    def _keep(self, name: Hashable, tensor: npt.NDArray[np.float32]) -> None:
        if tensor.size > self._left or name in self._kept:
            return
        first, last = (self._values[:, index, None, None] for index in (0, 255))
        crop = np.rint((tensor - first) * (255 / (last - first))).clip(0, 255).astype(np.uint8)
        back = np.stack([values[channel] for values, channel in zip(self._values, crop, strict=True)])
        if np.array_equal(back.view(np.uint32), tensor.view(np.uint32)):  # else it is decoded again
            self._kept[name] = crop
            self._left -= crop.size


def identity(image: ImageSource) -> Hashable:
    """What two images have in common that are the same: the file, or the object."""
    return os.path.realpath(image) if isinstance(image, str | os.PathLike) else id(image)


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


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """What a file says to the judged images in one runtime, and its comparisons with the source there."""

    logits: Logits
    checks: tuple[Check, ...]
    versions: dict[str, str]


class Judge:
    """Compares candidates with one source, whose answers are asked for once.

    Args:
        source: The fp32 file.
        calibration: Images that speed is measured with.
        images: Images that accuracy is judged on.
        labels: Their class indices; without, agreement with the source is judged.
        limits: What has to hold.
        runtime: `auto` or a runtime's name.
        batch: Images in one timed inference.
        threads: Of the runtime.
        crops: Prepares the images.
        budget: Told of each batch, and ends the work when the time is over.

    Raises:
        OptionError: No such runtime.
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
        crops: Crops,
        budget: Budget,
    ) -> None:
        self.source, self.spec, self.limits = source, spec, limits
        self.runtime, self.machine = pick_runtime(source, runtime).name, processor_name()
        self.askable: tuple[Precision, ...] = (
            ("fp32", "bf16") if self.runtime == "openvino" and has_native_bf16() else ("fp32",)
        )
        self.sources: tuple[Attempt, ...] = ()
        self._calibration, self._images = calibration, images
        self._labels = np.asarray(labels) if labels is not None else None
        self._batch, self._threads, self._crops, self._budget = batch, threads, crops, budget
        self._golden: tuple[Answered, ...] = ()

    def judge_sources(self) -> tuple[Attempt, ...]:
        """Judges the source itself in every precision that the runtime has here; goes before everything else.

        Raises:
            ImageError: An image cannot be read.
            TimeIsOverError: The time is over.
        """
        with open_runtime(self.source, "onnxruntime", threads=self._threads) as exact:
            infer = infer_with(exact, self.spec)
            self._versions = exact.versions()
            self._golden = answer(infer, [probe for probe in standard_probes(self.spec) if probe.inputs == "golden"])
            batches = self._batches(self._images, "source, onnxruntime")
            self._truth: Logits = np.concatenate([infer(batch) for batch in batches])
        rows = []
        for asked in self.askable:
            exactly = (self.runtime, asked) == ("onnxruntime", "fp32")
            label = f"source {asked}"
            logits = self._truth if exactly else self._ask(self.source, self.runtime, asked, label).logits
            reason = self._inaccurate(logits)
            row = Attempt(recipe="source", precision="fp32", asked=asked, passed=not reason, reason=reason)
            rows.append(dataclasses.replace(row, **self._measured(logits)))
        self.sources = tuple(rows)
        return self.sources

    def judge(self, path: Path, recipe: Recipe) -> Tried:
        """Judges a candidate: answers where its types are followed exactly and in the runtime at hand, then speed.

        Args:
            path: The candidate.
            recipe: How it was made.

        Raises:
            TimeIsOverError: The time is over.
        """
        attempt = self.unjudged(recipe)
        found: list[_Answers] = []
        for runtime, asked in self._ways(recipe):
            try:
                found.append(self._ask(path, runtime, asked, str(recipe)))
            except RuntimeFailureError as error:
                return Tried(attempt=dataclasses.replace(attempt, reason=f"{error.what}: {error.got}"), accurate=False)
            if reason := self._inaccurate(found[-1].logits):
                break  # what fails in one of its ways needs no other
        worst = max(found, key=lambda answers: self._loss(answers.logits).net)
        attempt = dataclasses.replace(
            attempt,
            **self._measured(worst.logits)
            | {"relative_error": max(self._error(answers.logits) for answers in found), "reason": reason},
        )
        if reason:
            return Tried(attempt=attempt, accurate=False)
        checks = [check for answers in found for check in answers.checks]
        failed = next((check for check in checks if not check.passed), None)
        if failed is not None:
            return Tried(attempt=dataclasses.replace(attempt, reason=describe(failed)), accurate=False)
        versions = {name: version for answers in found for name, version in answers.versions.items()}
        verification = record(f"{self.source.name} fp32", checks, self._versions | versions)
        if self.limits.min_speedup is not None:
            attempt = self._timed(attempt, path)
        return Tried(
            attempt=dataclasses.replace(attempt, passed=not attempt.reason), accurate=True, verification=verification
        )

    def unjudged(self, recipe: Recipe, reason: str = "") -> Attempt:
        """The record of a candidate of which nothing is measured.

        Args:
            recipe: How it was made.
            reason: Why.
        """
        return Attempt(
            recipe=str(recipe), precision=recipe.precision, asked=self._asked(recipe), passed=False, reason=reason
        )

    def images_for_sources(self) -> int:
        """How often an image goes through the source in `judge_sources`."""
        return len(self._images) * len({("onnxruntime", "fp32"), *((self.runtime, asked) for asked in self.askable)})

    def images_for(self, recipe: Recipe) -> int:
        """How often an image goes through a candidate until it is judged, its speed included, at most."""
        rounds = 15 if self.limits.min_speedup is not None else 0
        return len(self._images) * len(self._ways(recipe)) + self._raced(rounds * (1 + len(self.askable)))

    def images_for_ranking(self, blocks: int) -> int:
        """The same for `harm` of each of so many blocks."""
        return blocks * min(RANKING_IMAGES, len(self._images))

    def harm(self, path: Path, recipe: Recipe, label: str) -> float:
        """The mean squared error of a candidate's logits on a few of the images: how much a recipe harms.

        Args:
            path: The candidate.
            recipe: How it was made.
            label: What a bar says.

        Returns:
            Infinity where no runtime takes it in this form.

        Raises:
            TimeIsOverError: The time is over.
        """
        # Evenly: a folder is sorted by class.
        picked = list(pick_evenly(range(len(self._images)), RANKING_IMAGES))
        try:
            with open_runtime(path, _exact(recipe), threads=self._threads) as runtime:
                batches = self._batches([self._images[n] for n in picked], label)
                logits = np.concatenate([infer_logits(runtime, runtime.spec, batch) for batch in batches])
        except RuntimeFailureError:
            return float(np.inf)
        error = np.nan_to_num(logits.astype(np.float64) - self._truth[picked], nan=1e9, posinf=1e9, neginf=-1e9)
        return float(np.square(error).mean())

    def _asked(self, recipe: Recipe) -> Precision:
        # An fp16 graph keeps its own types: asked for bf16, OpenVINO would compute that instead.
        return "bf16" if "bf16" in self.askable and recipe.precision != "fp16" else "fp32"

    def _ways(self, recipe: Recipe) -> list[tuple[str, Precision]]:
        # OpenVINO on a CPU computes fp16 graphs in fp32 and would not see an overflow; ONNX Runtime follows the types.
        return list(dict.fromkeys([(_exact(recipe), "fp32"), (self.runtime, self._asked(recipe))]))

    def _ask(self, path: Path, runtime: str, asked: Precision, label: str) -> _Answers:
        with open_runtime(path, runtime, precision=asked, threads=self._threads) as opened:
            computed = opened.spec.computed_in(asked)
            candidate = Candidate(
                runtime=runtime,
                precision=computed,
                infer=infer_with(opened, opened.spec),
                gate=gate_for(computed, opened.spec.precision),
            )
            golden = judge(candidate, self._golden)
            batches = self._batches(self._images, f"{label}, {runtime}")
            logits = np.concatenate([candidate.infer(batch) for batch in batches])
            versions = opened.versions()
        picked = list(pick_evenly(range(len(self._images)), VERIFIED_IMAGES))
        seen = check_logits(
            self._truth[picked],
            logits[picked],
            gate=candidate.gate,
            runtime=runtime,
            precision=computed,
            inputs="images",
            batch=min(IMAGE_BATCH, len(self._images)),
        )
        return _Answers(logits=logits, checks=(*golden, seen), versions=versions)

    def _batches(self, images: Sequence[ImageSource], label: str) -> Iterator[npt.NDArray[np.float32]]:
        return self._crops.batches(images, label=label, budget=self._budget)

    def _loss(self, logits: Logits) -> Loss:
        finite = np.isfinite(logits).all(axis=1)
        answers, truth = logits.argmax(axis=1), self._truth.argmax(axis=1)
        if self._labels is None:
            return Loss(images=len(logits), lost=int((~finite | (answers != truth)).sum()))
        right, before = finite & (answers == self._labels), truth == self._labels
        return Loss(images=len(logits), lost=int((before & ~right).sum()), gained=int((right & ~before).sum()))

    def _measured(self, logits: Logits) -> dict[str, Any]:
        """The fields of an attempt that say what answers are worth."""
        loss, finite, answers = self._loss(logits), np.isfinite(logits).all(axis=1), logits.argmax(axis=1)
        return {
            "top1": float((finite & (answers == self._labels)).mean()) if self._labels is not None else None,
            "agreement": float((finite & (answers == self._truth.argmax(axis=1))).mean()),
            "relative_error": self._error(logits),
            "lost": loss.lost,
            "gained": loss.gained,
            "loss_bounds": loss.bounds(self.limits.confidence),
        }

    def _error(self, logits: Logits) -> float:
        if not np.isfinite(logits).all():
            return 1e30  # JSON has no infinity
        scale = np.abs(self._truth).max(axis=1, keepdims=True)
        return float((np.abs(logits - self._truth) / np.maximum(scale, np.finfo(np.float32).tiny)).max())

    def _inaccurate(self, logits: Logits) -> str:
        """What is wrong with answers, or nothing."""
        without = float((~np.isfinite(logits).all(axis=1)).mean())
        if without:
            return f"logits that are no numbers on {without:.0%} of the images"
        loss, limits = self._loss(logits), self.limits
        if not loss.is_beyond(limits.allowed(labelled=self._labels is not None), limits.confidence):
            return ""
        if self._labels is None:
            return f"{1 - loss.share:.2%} of the source's answers"
        return f"{100 * loss.share:.2f} points of top-1 lost"

    def _timed(self, attempt: Attempt, path: Path) -> Attempt:
        rivals = {f"source {asked}": (self.source, asked) for asked in rivals_among(self.sources)}
        tensors = self._crops.tensors([self._calibration[n % len(self._calibration)] for n in range(self._batch)])
        contenders = {"candidate": (path, attempt.asked), **rivals}
        turns = time_files(
            contenders, runtime=self.runtime, tensors=tensors, threads=self._threads, progress=self._budget
        )
        self._budget.work.advance(self._raced(sum(map(len, turns.seconds.values()))))
        speed = Speed.of(turns, "candidate", rivals)
        return dataclasses.replace(
            attempt,
            latency_ms=speed.pair_ms[0],
            rival=speed.rival,
            rival_ms=speed.pair_ms[1],
            speedup=speed.speedup,
            speedup_low=speed.low,
            reason=speed.refusal(self.limits.min_speedup or 1.0),
        )

    def _raced(self, turns: int) -> int:
        """Images that go through networks in so many turns of a race."""
        return turns * (1 + SETTLING_CALLS) * self._batch


def rivals_among(sources: Sequence[Attempt]) -> list[Precision]:
    """The precisions of the source that a candidate has to beat: those in which it holds its own gate, and fp32.

    That is what the user has without a new file, bf16 beside a bf16 file too.

    Args:
        sources: The source in every precision that the runtime has here.
    """
    return [row.asked for row in sources if row.passed or row.asked == "fp32"]


def _exact(recipe: Recipe) -> str:
    """The runtime that follows a graph's types to the letter; ONNX Runtime has no bf16 on a CPU."""
    return "openvino" if "bf16" in (recipe.precision, recipe.around) else "onnxruntime"
