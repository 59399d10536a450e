"""From JPEG bytes to a label, stage by stage, one image at a time."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from vitrify.bench.report import Stages
from vitrify.classifier import probabilities, top_labels
from vitrify.pixels import decode, preprocess
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import Runtime, infer_logits

T = TypeVar("T")

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
    """Takes each image through every contender, so that contenders take turns; medians over images.

    Every contender reads and prepares the image itself: what it shares with the others it also pays for.

    Args:
        contenders: Open, by name; all of one model.
        images: Files that can be read, at least one; the first are gone through twice, untimed at first.
        threads: Of preprocessing.
        progress: Told of each image.
    """
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in contenders}
    alone: list[float] = []
    rounds = [*images[:_WARM_UP], *images]
    for number, path in enumerate(progress.track(rounds, label="stages")):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            times[name].append(_one(contenders[name], path, threads))
        data = path.read_bytes()
        start = time.perf_counter()
        decode(data)
        alone.append(1e3 * (time.perf_counter() - start))
    skipped = len(rounds) - len(images)
    found = []
    for name, rows in times.items():
        kept = rows[skipped:]
        read, prepared, inferred, post = (statistics.median(stage) for stage in zip(*kept, strict=True))
        found.append(
            Stages(
                name=name,
                images=len(images),
                read_ms=read,
                preprocess_ms=prepared,
                decode_alone_ms=statistics.median(alone[skipped:]),
                inference_ms=inferred,
                post_ms=post,
                total_ms=statistics.median(map(sum, kept)),
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
