"""Images in, labels out, over any runtime."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import Artifact
from vitrify.classifier.options import ClassifierOptions
from vitrify.classifier.sources import as_images
from vitrify.errors import ImageError, RuntimeFailureError
from vitrify.machine import available_threads
from vitrify.pixels import Decoders, ImageSource, named, native_source, source_name
from vitrify.runtimes import (
    Runtime,
    check_outputs,
    has_native_bf16,
    infer_logits,
    open_runtime,
    pick_runtime,
    preparer,
)
from vitrify.runtimes import self_test as run_self_test
from vitrify.signatures import with_options
from vitrify.spec import ModelSpec, Precision

if TYPE_CHECKING:
    from typing_extensions import Self

Source: TypeAlias = bytes | npt.NDArray[np.uint8]
Row: TypeAlias = npt.NDArray[np.float32] | ImageError


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """One label of an answer.

    Attributes:
        label: The class name.
        index: Its place among the labels.
        probability: 0 to 1.
    """

    label: str
    index: int
    probability: float


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


@with_options(ClassifierOptions)
class Classifier:
    """Classifies images with an artifact, which says itself how.

    Args:
        path: `.onnx`, an engine with its manifest, or a checkpoint where PyTorch is installed.
        options: Options as a value, such as another classifier's; the others replace what it says.
        **others: OPTIONS

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

    def __init__(self, path: str | os.PathLike[str], options: ClassifierOptions | None = None, **others: Any) -> None:
        self.path = Path(path)
        try:
            self.options = options = dataclasses.replace(options or ClassifierOptions(), **others)
        except TypeError as error:  # an option that there is not, as for any class
            raise TypeError(str(error).replace("ClassifierOptions.__init__()", "Classifier()")) from None
        self.threads = options.threads or available_threads()
        self._limits = options.limits
        row = pick_runtime(self.path, options.runtime)
        artifact = Artifact.open(self.path)
        # A file whose spec cannot be used fails at once; a foreign checkpoint is understood once its tensors are read.
        early = artifact.spec if artifact.kind != "checkpoint" else None
        chosen: Precision = _automatic_precision(early, row.name) if options.precision == "auto" else options.precision
        dequantize = options.precision == "fp32" and artifact.kind == "onnx" and artifact.precision == "int8"
        # Threads and pixels are this class's as well; pixels on the GPU are the runtime's alone.
        shared = row.understood(threads=options.threads, pixels=options.pixels)
        if options.pixels == "gpu":
            shared["pixels"] = "gpu"
        self._runtime: Runtime = open_runtime(
            artifact,
            row.name,
            precision=chosen,
            dequantize=dequantize or None,
            like=options.like,
            **shared,
        )
        self.spec: ModelSpec = early or self._runtime.spec
        try:
            check_outputs(self._runtime, self.spec)
            run_self_test(self._runtime, self.spec, options.self_test)
        except BaseException:
            self._runtime.close()
            raise
        self._on_device = preparer(self._runtime)
        self._batch = min(options.batch_size, self._runtime.describe().fitting_batch(options.batch_size))
        # A stream's batches under way: one in the runtime and one being prepared; where a GPU prepares, two more that
        # are read and decoded. On the CPU, streams of several callers run side by side.
        self._ahead, batches = (2, max(2, self.threads)) if self._on_device is None else (4, 4)
        self._callers = ThreadPoolExecutor(batches, thread_name_prefix="vitrify-batches")
        self._readers = ThreadPoolExecutor(self.threads, thread_name_prefix="vitrify-files")
        self._decoders = Decoders(self.threads)
        self._idle: collections.deque[npt.NDArray[np.float32]] = collections.deque()  # a batch's buffer each

    @property
    def pixels_on_gpu(self) -> bool:
        """Whether the runtime prepares the images on its GPU."""
        return self._on_device is not None

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

        While one batch is inferred, the next is read and prepared; a GPU that prepares them has several under way.

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
        numbered = ((source_name(image) or f"image {number}", image) for number, image in enumerate(images))
        turn = threading.Lock()
        pending: collections.deque[tuple[list[str], Future[list[Row]]]] = collections.deque()
        try:
            while True:
                while len(pending) < self._ahead and (batch := list(itertools.islice(numbered, self._batch))):
                    reading = [self._readers.submit(native_source, image, self._limits) for _, image in batch]
                    answering = self._callers.submit(self._answer, [image for _, image in batch], reading, turn)
                    pending.append(([name for name, _ in batch], answering))
                if not pending:
                    return
                names, future = pending.popleft()
                yield from self._named(names, future.result())
        finally:
            for _, future in pending:
                future.cancel()

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
        self._callers.shutdown(cancel_futures=True)
        self._readers.shutdown(cancel_futures=True)
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, images: list[ImageSource], reading: list[Future[Source]], turn: threading.Lock) -> list[Row]:
        """Each image's logits, or what is wrong with it."""
        rows: dict[int, Row] = {}
        sources: dict[int, Source] = {}
        for index, future in enumerate(reading):
            try:
                sources[index] = future.result()
            except ImageError as error:
                rows[index] = error
        for index, row in zip(sources, self._inferred(list(sources.values()), turn), strict=True):
            rows[index] = named(row, images[index]) if isinstance(row, ImageError) else row
        return [rows[index] for index in range(len(images))]

    def _inferred(self, sources: list[Source], turn: threading.Lock) -> list[Row]:
        spec, limits = self.spec, self._limits
        if self._on_device is not None:
            opened = self._decoders.open(sources, spec.preprocess, limits=limits)
            images = [image for image in opened if not isinstance(image, ImageError)]
            logits, errors = self._on_device.infer_images(images, spec, self._decoders) if images else ((), ())
            answers = (error or row.astype(np.float32, copy=False) for row, error in zip(logits, errors, strict=True))
            return [one if isinstance(one, ImageError) else next(answers) for one in opened]
        try:
            buffer = self._idle.pop()
        except IndexError:
            buffer = np.empty((0, 3, spec.preprocess.crop_height, spec.preprocess.crop_width), np.float32)
        if len(buffer) < len(sources):
            buffer = np.empty((len(sources), *buffer.shape[1:]), np.float32)
        tensors = buffer[: len(sources)]
        failures = self._decoders.prepare(sources, spec.preprocess, tensors, limits=limits)
        good = [failure is None for failure in failures]
        with turn:  # one batch in the runtime while the next is prepared
            rows = iter(self.logits(tensors if all(good) else tensors[good]) if any(good) else ())
        self._idle.append(buffer)
        return [failure or next(rows) for failure in failures]

    def _named(self, names: list[str], rows: list[Row]) -> Iterator[Prediction | Failure]:
        for name, row in zip(names, rows, strict=True):
            if not isinstance(row, ImageError):
                self._require_numbers(name, row)
        logits = [row for row in rows if not isinstance(row, ImageError)]
        scores = iter(probabilities(np.stack(logits), self.spec) if logits else ())
        for name, row in zip(names, rows, strict=True):
            if isinstance(row, ImageError):
                yield Failure(source=name, error=row)
            else:
                yield Prediction(source=name, top=top_labels(next(scores), self.labels, self.options.top_k), logits=row)

    def _require_numbers(self, name: str, row: npt.NDArray[np.float32]) -> None:
        bad = np.flatnonzero(~np.isfinite(row))
        if len(bad):
            raise RuntimeFailureError(
                f"the model gives no number for {name}",
                got=f"{row[bad[0]]} for {self.labels[bad[0]]!r}",
                expected="finite logits",
                hint=f"vitrify verify {self.path}; a reduced precision may overflow",
            )


def probabilities(scores: npt.NDArray[np.float32], spec: ModelSpec) -> npt.NDArray[np.float64]:
    """Softmax over the classes, or the sigmoid of each for a multi-label model, in float64.

    Args:
        scores: `[B, classes]`, as the network gives them.
        spec: Says whether they are logits, and whether classes exclude each other.

    Returns:
        `[B, classes]` float64 in 0..1.
    """
    values = scores.astype(np.float64)
    if spec.output.kind == "probabilities":
        return values
    if spec.output.task == "multi-label":
        return np.exp(-np.logaddexp(0, -values))
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def top_labels(row: npt.NDArray[np.float64], labels: tuple[str, ...], count: int) -> tuple[LabelScore, ...]:
    """The `count` most probable labels, best first; equal ones in the order of the labels.

    Args:
        row: `[classes]` probabilities.
        labels: One name a class.
        count: How many; fewer where there are fewer classes.
    """
    order = np.argsort(-row, kind="stable")[:count]
    return tuple(LabelScore(label=labels[i], index=int(i), probability=float(row[i])) for i in order)


def _automatic_precision(spec: ModelSpec | None, runtime: str) -> Precision:
    if runtime == "cuda":
        return "fp16"  # the most exact that it has
    verified = spec is not None and spec.verification is not None and spec.verification.allows(runtime, "bf16")
    return "bf16" if runtime == "openvino" and verified and has_native_bf16() else "fp32"
