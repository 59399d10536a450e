"""Images in, labels out, over any runtime."""

from __future__ import annotations

import collections
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import Artifact
from vitrify.classifier.pipeline import ImagePipeline
from vitrify.classifier.postprocess import LabelScore, probabilities, top_labels
from vitrify.classifier.sources import as_images
from vitrify.errors import ImageError, OptionError, RuntimeFailureError
from vitrify.machine import available_threads
from vitrify.pixels import ImageSource, preprocess, source_name
from vitrify.runtimes import (
    PixelsOn,
    Runtime,
    SelfTest,
    check_outputs,
    has_native_bf16,
    infer_logits,
    open_runtime,
    pick_runtime,
    preparer,
)
from vitrify.runtimes import self_test as run_self_test
from vitrify.spec import ModelSpec, Precision

if TYPE_CHECKING:
    from typing_extensions import Self

PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "fp8"]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer for one image.

    Attributes:
        source: Its path, or `image 3` where it had none.
        top: The best labels, best first.
        logits: `[classes]` float32, what the network gave.
    """

    source: str
    top: tuple[LabelScore, ...]
    logits: npt.NDArray[np.float32] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, object]:
        """Flat, for a row of a table: `pandas.DataFrame([p.to_dict() for p in predictions])`.

        Returns:
            `source`, `label` and `probability`, then `label_2`, `probability_2` and so on to the last of `top`.
        """
        row: dict[str, object] = {"source": self.source}
        for place, score in enumerate(self.top, 1):
            suffix = "" if place == 1 else f"_{place}"
            row |= {f"label{suffix}": score.label, f"probability{suffix}": score.probability}
        return row

    @property
    def label(self) -> str:
        """The best label."""
        return self.top[0].label

    @property
    def probability(self) -> float:
        """The best label's probability, 0 to 1."""
        return self.top[0].probability


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that could not be read.

    Attributes:
        source: Its path, or `image 3` where it had none.
        error: Why.
    """

    source: str
    error: ImageError

    def to_dict(self) -> dict[str, object]:
        """Flat, as a prediction's: `source`, and `error` in one line."""
        got = f" ({self.error.got})" if self.error.got else ""
        return {"source": self.source, "error": f"{self.error.what}{got}"}


class Classifier:
    """Classifies images with an artifact, which says itself how.

    Args:
        path: `.onnx`, or a checkpoint where PyTorch is installed.
        runtime: `auto`, or a runtime's name.
        precision: `auto` takes bf16 where the artifact's own record says that it passed its gate on real images, the
            processor has it, and the runtime is OpenVINO; fp16 in the runtime cuda; else what the artifact says. Naming
            one forces it: with fp32, an 8-bit artifact is run dequantised.
        threads: Threads of the runtime and of preprocessing; by default one a core. Where there are fewer images than
            threads, a large baseline JPEG is decoded on several.
        batch_size: Images in one inference.
        pixels: Where images are resized, cropped and normalised: `auto` takes the GPU where the runtime has one and can
            do it, `cpu` and `gpu` ask for one. The tensors are the same.
        top_k: Labels in an answer.
        self_test: When the golden vectors run: `auto` at the first opening of this file in this runtime on this
            machine, whose verdict is kept in vitrify's cache folder; `always`, or `never`.
        like: A spec of the same model, for a foreign checkpoint whose tensors do not tell everything; artifacts do.

    Raises:
        ArtifactError: No artifact, or a damaged one.
        SpecError: An artifact without a spec that can be used.
        OptionError: An option that contradicts the artifact.
        ProcessorError: 8-bit products that would saturate on this processor.
        SelfTestError: The artifact does not give its golden logits here.
        MissingExtraError: The runtime's package is not installed.

    Example:
        >>> with Classifier("model.onnx") as classify:
        ...     for prediction in classify(["tulip.jpg", "rose.jpg"]):
        ...         print(prediction.source, prediction.label, prediction.probability)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        runtime: str = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        batch_size: int = 8,
        pixels: PixelsOn = "auto",
        top_k: int = 5,
        self_test: SelfTest = "auto",
        like: ModelSpec | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("top_k", top_k), ("threads", threads)):
            if value is not None and value < 1:
                raise OptionError(f"{name} is not positive", got=value, expected="1 or more")
        self.path = Path(path)
        self.batch_size = batch_size
        self.top_k = top_k
        self.threads = threads or available_threads()
        row = pick_runtime(self.path, runtime)
        artifact = Artifact.open(self.path)
        # A file whose spec cannot be used fails at once; a foreign checkpoint is understood once its tensors are read.
        early = artifact.spec if artifact.kind != "checkpoint" else None
        chosen: Precision = _automatic_precision(early, row.name) if precision == "auto" else precision
        dequantize = precision == "fp32" and artifact.kind == "onnx" and artifact.precision == "int8"
        # Threads and pixels are this class's as well; pixels on the GPU are the runtime's alone.
        shared = row.understood(threads=threads, pixels=pixels) | ({"pixels": pixels} if pixels == "gpu" else {})
        self._runtime: Runtime = open_runtime(
            artifact,
            row.name,
            precision=chosen,
            dequantize=dequantize or None,
            like=like,
            **shared,
        )
        self.spec: ModelSpec = early or self._runtime.spec
        try:
            check_outputs(self._runtime, self.spec)
            run_self_test(self._runtime, self.spec, self_test)
        except BaseException:
            self._runtime.close()
            raise
        self._preparing, self._lock = 0, threading.Lock()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="vitrify-pixels")
        self._pipeline: ImagePipeline | None = None
        if (images := preparer(self._runtime)) is not None:
            size = min(batch_size, self._runtime.describe().fitting_batch(batch_size))
            self._pipeline = ImagePipeline(images, self.spec, self._pool, threads=self.threads, batch_size=size)

    @property
    def pixels_on_gpu(self) -> bool:
        """Whether the runtime prepares the images on its GPU."""
        return self._pipeline is not None

    @property
    def runtime(self) -> Runtime:
        """The open runtime."""
        return self._runtime

    @property
    def labels(self) -> tuple[str, ...]:
        """One name a class, in the order of the logits."""
        return self.spec.labels

    def __call__(self, images: ImageSource | Iterable[ImageSource]) -> list[Prediction]:
        """Classifies images, all or none.

        Args:
            images: One image or several: paths, open binary files, encoded bytes, PIL images or `[H, W, 3]` uint8 RGB
                arrays or tensors; several also as an `[N, H, W, 3]` array or a DataFrame's column of paths.

        Returns:
            A prediction for each, in order.

        Raises:
            ImageError: One cannot be read; `stream` goes on past such images.
            OptionError: A DataFrame or a dictionary, of which a column or a list is meant.
        """
        predictions = []
        for answer in self.stream(images):
            if isinstance(answer, Failure):
                raise answer.error
            predictions.append(answer)
        return predictions

    def stream(self, images: ImageSource | Iterable[ImageSource]) -> Iterator[Prediction | Failure]:
        """Classifies any number of images, reading ahead by a few batches and holding no more.

        Where a GPU prepares the images, batches are read, decoded, copied and inferred side by side.

        Args:
            images: As for a call; may be endless.

        Yields:
            A prediction for each image, or what is wrong with it, in order.

        Raises:
            RuntimeFailureError: The runtime failed, or gave a number that is none; the classifier is closed, or was
                opened in another process.
        """
        images = as_images(images)
        self._runtime.describe()  # says so where it is closed, or was opened before a fork
        if self._pipeline is not None:
            yield from self._stream_through(self._pipeline, images)
            return
        # One thread an image, and several where it is known that there are fewer images than threads.
        count = max(1, len(images)) if isinstance(images, Sized) else self.threads
        numbered = enumerate(images)
        pending: collections.deque[tuple[str, Future[npt.NDArray[np.float32]]]] = collections.deque()
        while True:
            for number, image in itertools.islice(numbered, 2 * self.batch_size - len(pending)):
                threads = max(1, self.threads // count + (number < self.threads % count))
                pending.append((_name(image, number), self._pool.submit(self._tensor, image, threads)))
            if not pending:
                return
            yield from self._answer([pending.popleft() for _ in range(min(self.batch_size, len(pending)))])

    def logits(self, tensors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Runs preprocessed images.

        Args:
            tensors: `[B, 3, H, W]` float32, as `vitrify.pixels.preprocess` makes them.

        Returns:
            `[B, classes]` float32.
        """
        return infer_logits(self._runtime, self.spec, tensors)

    def close(self) -> None:
        """Frees the runtime and the threads."""
        if self._pipeline is not None:
            self._pipeline.close()
        self._pool.shutdown(cancel_futures=True)
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _tensor(self, image: ImageSource, threads: int) -> npt.NDArray[np.float32]:
        # Several callers at once share the threads: what others prepare is taken off.
        with self._lock:
            self._preparing += 1
            threads = max(1, min(threads, self.threads - self._preparing + 1))
        try:
            return preprocess([image], self.spec.preprocess, threads=threads)
        finally:
            with self._lock:
                self._preparing -= 1

    def _answer(self, batch: list[tuple[str, Future[npt.NDArray[np.float32]]]]) -> Iterator[Prediction | Failure]:
        failures = dict(self._failures(batch))
        tensors = [future.result() for index, (_, future) in enumerate(batch) if index not in failures]
        logits = iter(self.logits(np.concatenate(tensors)) if tensors else ())
        rows = [failures[index] if index in failures else next(logits) for index in range(len(batch))]
        yield from self._named([name for name, _ in batch], rows)

    def _stream_through(self, pipeline: ImagePipeline, images: Iterable[ImageSource]) -> Iterator[Prediction | Failure]:
        names: collections.deque[str] = collections.deque()

        def noted() -> Iterator[ImageSource]:
            for number, image in enumerate(images):
                names.append(_name(image, number))
                yield image

        for rows in pipeline.stream(noted()):
            yield from self._named([names.popleft() for _ in rows], rows)

    def _named(
        self, names: list[str], rows: Sequence[npt.NDArray[np.float32] | ImageError]
    ) -> Iterator[Prediction | Failure]:
        for name, row in zip(names, rows, strict=True):
            if not isinstance(row, ImageError):
                self._require_numbers(name, row)
        logits = [row for row in rows if not isinstance(row, ImageError)]
        scores = iter(probabilities(np.stack(logits), self.spec) if logits else ())
        for name, row in zip(names, rows, strict=True):
            if isinstance(row, ImageError):
                yield Failure(source=name, error=row)
            else:
                yield Prediction(source=name, top=top_labels(next(scores), self.labels, self.top_k), logits=row)

    def _require_numbers(self, name: str, row: npt.NDArray[np.float32]) -> None:
        bad = np.flatnonzero(~np.isfinite(row))
        if len(bad):
            raise RuntimeFailureError(
                f"the model gives no number for {name}",
                got=f"{row[bad[0]]} for {self.labels[bad[0]]!r}",
                expected="finite logits",
                hint=f"vitrify verify {self.path}; a reduced precision may overflow",
            )

    @staticmethod
    def _failures(batch: list[tuple[str, Future[npt.NDArray[np.float32]]]]) -> Iterator[tuple[int, ImageError]]:
        for index, (_, future) in enumerate(batch):
            error = future.exception()
            if isinstance(error, ImageError):
                yield index, error


def _automatic_precision(spec: ModelSpec | None, runtime: str) -> Precision:
    if runtime == "cuda":
        return "fp16"  # the most exact that it has
    verified = spec is not None and spec.verification is not None and spec.verification.allows(runtime, "bf16")
    return "bf16" if runtime == "openvino" and verified and has_native_bf16() else "fp32"


def _name(image: ImageSource, number: int) -> str:
    return source_name(image) or f"image {number}"
