"""Batches of images through a runtime that prepares them itself, several at once."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitrify.errors import ImageError
from vitrify.pixels import Decoders, ImageSource, named, native_source
from vitrify.pixels.limits import DEFAULT_LIMITS
from vitrify.runtimes import PreparesImages
from vitrify.spec import ModelSpec

Source: TypeAlias = bytes | npt.NDArray[np.uint8]
Row: TypeAlias = npt.NDArray[np.float32] | ImageError

_AT_ONCE = 4
"""Batches under way: one on the GPU, one being copied and prepared, two being read and decoded."""


class ImagePipeline:
    """Reads, decodes and infers batches side by side, and gives their answers in order.

    Args:
        runtime: Open.
        spec: Of its model.
        readers: Threads that read files, and decode what the native core does not.
        threads: Threads of the native core, which decode.
        batch_size: Images in one inference, one that fits the model.
    """

    def __init__(
        self, runtime: PreparesImages, spec: ModelSpec, readers: ThreadPoolExecutor, *, threads: int, batch_size: int
    ) -> None:
        self._runtime, self._spec, self._readers = runtime, spec, readers
        self._size = batch_size
        self._decoders = Decoders(threads)
        self._callers = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="vitrify-batches")

    def stream(self, images: Iterable[ImageSource]) -> Iterator[list[Row]]:
        """Answers batch by batch, holding no more than are under way.

        Args:
            images: May be endless.

        Yields:
            For each image of a batch its logits, `[classes]` float32, or what is wrong with it.
        """
        images = iter(images)
        pending: collections.deque[Future[list[Row]]] = collections.deque()
        try:
            while True:
                while len(pending) < _AT_ONCE and (batch := list(itertools.islice(images, self._size))):
                    sources = [self._readers.submit(native_source, image, DEFAULT_LIMITS) for image in batch]
                    pending.append(self._callers.submit(self._answer, batch, sources))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """Ends the threads, once their batches are done."""
        self._callers.shutdown(cancel_futures=True)

    def _answer(self, images: list[ImageSource], reading: list[Future[Source]]) -> list[Row]:
        rows: dict[int, Row] = {}
        sources: list[tuple[int, Source]] = []
        for index, future in enumerate(reading):
            try:
                sources.append((index, future.result()))
            except ImageError as error:
                rows[index] = error
        opened = self._decoders.open([source for _, source in sources], self._spec.preprocess)
        readable = []
        for (index, _), image in zip(sources, opened, strict=True):
            if isinstance(image, ImageError):
                rows[index] = named(image, images[index])
            else:
                readable.append((index, image))
        if readable:
            logits, failures = self._runtime.infer_images([image for _, image in readable], self._spec, self._decoders)
            for (index, _), row, failure in zip(readable, logits, failures, strict=True):
                rows[index] = named(failure, images[index]) if failure else row.astype(np.float32, copy=False)
        return [rows[index] for index in range(len(images))]
