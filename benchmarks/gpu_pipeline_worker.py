"""vitrify's side of `benchmarks/gpu_pipeline.py`, in its own process: TensorRT 8.5 needs another Python than PyTorch.

Reads a JSON command a line on standard input and answers each with a JSON line:

    {"do": "open", "model": "a.engine", "pixels": "gpu", "batch": 64, "threads": 16}    -> {}
    {"do": "logits", "pixels": …, "files": […]}                                         -> {"logits": [[…], …]}
    {"do": "time", "pixels": …, "files": […], "seconds": s}     -> {"images_per_s": …, "latency_ms_p50": …, …}
    {"do": "stages", "pixels": …, "files": […]}                 -> {"decode_ms": …, …}
    {"do": "versions"}                                          -> {"tensorrt": …}
"""

from __future__ import annotations

import collections
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker_process import serve

from vitrify.classifier import Classifier, Failure
from vitrify.pixels import Decoders, preprocess
from vitrify.pixels.batches import StoredImage


class Bench:
    """Open classifiers, one for each place of the pixels."""

    def __init__(self) -> None:
        self.open_ones: dict[str, Classifier] = {}

    def open(self, model: str, pixels: str, batch: int, threads: int) -> dict[str, Any]:
        """Opens a classifier, and fails where its pixels are elsewhere than was asked for."""
        self.open_ones[pixels] = Classifier(model, pixels=pixels, batch_size=batch, threads=threads)  # type: ignore[arg-type]
        return {}

    def logits(self, pixels: str, files: list[str]) -> dict[str, Any]:
        """Of each file."""
        return {"logits": [answer.logits.tolist() for answer in self.open_ones[pixels](files)]}

    def time(self, pixels: str, files: list[str], seconds: float) -> dict[str, Any]:
        """Runs until the time is up; the first batches fill the pipeline and do not count."""
        classifier = self.open_ones[pixels]
        asked: collections.deque[float] = collections.deque()
        stop = False

        def endless() -> Iterator[str]:
            for file in itertools.cycle(files):
                if stop:
                    return
                asked.append(time.perf_counter())
                yield file

        latencies: list[float] = []
        skipped = 4 * classifier.batch_size
        start = end = time.perf_counter()
        for number, answer in enumerate(classifier.stream(endless())):
            now = time.perf_counter()
            if isinstance(answer, Failure):
                raise answer.error
            latency = 1e3 * (now - asked.popleft())
            if number < skipped:
                start = now
            elif not stop:
                latencies.append(latency)
                if (number + 1) % classifier.batch_size == 0:  # answers come a batch at a time
                    end = now
                    stop = now - start > seconds
        latencies.sort()
        return {
            "images_per_s": len(latencies) / (end - start),
            "latency_ms_p50": statistics.median(latencies),
            "latency_ms_p99": latencies[int(0.99 * (len(latencies) - 1))],
        }

    def stages(self, pixels: str, files: list[str]) -> dict[str, float]:
        """Medians over batches that run one after the other."""
        classifier = self.open_ones[pixels]
        batch = list(itertools.islice(itertools.cycle(files), classifier.batch_size))
        once = self._on_gpu if classifier.pixels_on_gpu else self._on_cpu
        rounds = [once(classifier, batch) for _ in range(8)][2:]
        return {f"{key}_ms": statistics.median(found[key] for found in rounds) for key in rounds[0]}

    def _on_gpu(self, classifier: Classifier, files: list[str]) -> dict[str, float]:
        decoders = Decoders(classifier.threads)
        marks = [time.perf_counter()]
        sources = [Path(file).read_bytes() for file in files]
        marks.append(time.perf_counter())
        opened = [one for one in decoders.open(sources, classifier.spec.preprocess) if isinstance(one, StoredImage)]
        marks.append(time.perf_counter())
        timed = _Timed(decoders)
        classifier.runtime.infer_images(opened, classifier.spec, timed)  # type: ignore[arg-type]
        marks.append(time.perf_counter())
        read, headers, rest = (1e3 * (later - sooner) for sooner, later in itertools.pairwise(marks))
        return {"read": read, "headers": headers, "decode": timed.ms, "plan, copy, prepare, infer": rest - timed.ms}

    def _on_cpu(self, classifier: Classifier, files: list[str]) -> dict[str, float]:
        start = time.perf_counter()
        tensors = preprocess(files, classifier.spec.preprocess, threads=classifier.threads)
        middle = time.perf_counter()
        classifier.logits(tensors)
        return {"read, decode, resize": 1e3 * (middle - start), "infer": 1e3 * (time.perf_counter() - middle)}

    def versions(self) -> dict[str, Any]:
        """Of the runtime."""
        for classifier in self.open_ones.values():
            return dict(classifier.runtime.versions())
        return {}


class _Timed:
    """Decoders that note how long decoding took."""

    def __init__(self, decoders: Decoders) -> None:
        self._decoders, self.ms = decoders, 0.0

    def decode(self, *arguments: Any) -> Any:
        """Passes on."""
        start = time.perf_counter()
        found = self._decoders.decode(*arguments)
        self.ms = 1e3 * (time.perf_counter() - start)
        return found


if __name__ == "__main__":
    serve(Bench())
