"""From JPEG bytes to a label, stage by stage, one image at a time."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrify.benchmark.report import Stages
from vitrify.classifier import probabilities, top_labels
from vitrify.errors import ImageError, VitrifyError
from vitrify.machine import available_threads
from vitrify.pixels import Decoders, decode, native_source, preprocess
from vitrify.pixels.batches import StoredImage, Window
from vitrify.pixels.limits import DEFAULT_LIMITS
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import PreparesImages, Runtime, infer_logits, preparer
from vitrify.spec import ModelSpec, gate_for
from vitrify.verification import check_logits, describe

STAGE_IMAGES = 20
_TOP_K = 5
_WARM_UP = 2


def time_stages(
    contenders: Mapping[str, Runtime],
    images: Sequence[Path],
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> tuple[Stages, ...]:
    """Takes each image through every contender, so that contenders take turns.

    Every contender reads and prepares the image itself: what it shares with the others it also pays for. A runtime that
    prepares images where the model runs does so here too, as `predict` lets it.

    Args:
        contenders: Open, by name; all of one model.
        images: Files that can be read, at least one; the first are gone through twice, untimed at first.
        threads: Of preprocessing.
        progress: Told of each image.
    """
    on_device = {name: preparer(runtime) for name, runtime in contenders.items()}
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in contenders}
    alone: list[float] = []
    decoders = TimedDecoders(threads or available_threads())
    rounds = [*images[:_WARM_UP], *images]
    for number, path in enumerate(progress.track(rounds, label="stages")):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            one, images_too = contenders[name], on_device[name]
            stages = _one_on_device(images_too, one.spec, path, decoders) if images_too else _one(one, path, threads)
            times[name].append(stages)
        data = path.read_bytes()
        start = time.perf_counter()
        decode(data)
        alone.append(1e3 * (time.perf_counter() - start))
    skipped = len(rounds) - len(images)
    found = []
    for name, rows in times.items():
        kept = rows[skipped:]
        # A quarter of the images goes at either end, with all its stages: what is left adds up.
        middle = sorted(kept, key=sum)[len(kept) // 4 : len(kept) - len(kept) // 4]
        read, prepared, inferred, post = (statistics.fmean(stage) for stage in zip(*middle, strict=True))
        found.append(
            Stages(
                name=name,
                images=len(images),
                pixels="gpu" if on_device[name] else "cpu",
                read_ms=read,
                preprocess_ms=prepared,
                decode_alone_ms=statistics.median(alone[skipped:]),
                inference_ms=inferred,
                post_ms=post,
                total_ms=read + prepared + inferred + post,
            )
        )
    return tuple(found)


def _one(runtime: Runtime, path: Path, threads: int | None) -> tuple[float, ...]:
    """Milliseconds of reading, preprocessing, inference and postprocessing."""
    spec = runtime.spec  # reads the file; not timed
    marks = [time.perf_counter()]
    data = path.read_bytes()
    marks.append(time.perf_counter())
    tensor = preprocess([data], spec.preprocess, threads=threads)
    marks.append(time.perf_counter())
    logits = infer_logits(runtime, spec, tensor)
    marks.append(time.perf_counter())
    top_labels(probabilities(logits, spec)[0], spec.labels, _TOP_K)
    marks.append(time.perf_counter())
    return tuple(1e3 * (end - start) for start, end in itertools.pairwise(marks))


class TimedDecoders(Decoders):
    """Keeps how long the last batch took to decode, which a runtime that prepares images does inside its own call."""

    seconds = 0.0

    def decode(
        self, images: Sequence[StoredImage], windows: Sequence[Window], memory: npt.NDArray[np.uint8]
    ) -> list[ImageError | None]:
        """Decodes as ever."""
        start = time.perf_counter()
        try:
            return super().decode(images, windows, memory)
        finally:
            self.seconds = time.perf_counter() - start


def wrongly_prepared(runtime: Runtime, path: Path) -> str:
    """What is wrong with the logits of an image that the runtime prepares; empty if they are those of the CPU's tensor.

    Args:
        runtime: Open, one that prepares images.
        path: An image that can be read.
    """
    spec = runtime.spec
    truth = infer_logits(runtime, spec, preprocess([path], spec.preprocess))
    images_too = preparer(runtime)
    assert images_too is not None
    try:
        logits, _ = _prepared_logits(images_too, spec, path.read_bytes(), Decoders(1))
    except VitrifyError as error:
        return error.what + (f" ({error.got})" if error.got not in (None, "") else "")
    check = check_logits(
        truth,
        logits,
        gate=gate_for(spec.precision),
        runtime=runtime.name,
        precision=spec.precision,
        inputs="images",
        batch=1,
    )
    if check.passed:
        return ""
    return f"an image that the GPU prepares has other logits than one that the processor does ({describe(check)})"


def _prepared_logits(
    runtime: PreparesImages, spec: ModelSpec, data: bytes, decoders: Decoders
) -> tuple[npt.NDArray[np.float32], float]:
    """Logits `[1, classes]`, and the time at which the header had been read and the runtime's call began."""
    (opened,) = decoders.open([native_source(data, DEFAULT_LIMITS)], spec.preprocess)
    if isinstance(opened, ImageError):
        raise opened
    began = time.perf_counter()
    logits, (failure,) = runtime.infer_images([opened], spec, decoders)
    if failure is not None:
        raise failure
    return logits.astype(np.float32, copy=False), began


def _one_on_device(runtime: PreparesImages, spec: ModelSpec, path: Path, decoders: TimedDecoders) -> tuple[float, ...]:
    """As `_one`; resizing is in the third stage."""
    start = time.perf_counter()
    data = path.read_bytes()
    read = time.perf_counter()
    logits, began = _prepared_logits(runtime, spec, data, decoders)
    inferred = time.perf_counter()
    top_labels(probabilities(logits, spec)[0], spec.labels, _TOP_K)
    end = time.perf_counter()
    decoding = decoders.seconds
    seconds = (read - start, began - read + decoding, inferred - began - decoding, end - inferred)
    return tuple(1e3 * one for one in seconds)
