"""Images that the CPU decodes and a GPU resizes, crops and normalises, by the plan of the native core."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vitrify import _native
from vitrify.pixels.preprocess import StoredImage, Window, native_spec
from vitrify.spec import Preprocess

__all__ = ["KERNEL_SOURCES", "TILE", "BatchPlan", "StoredImage", "Window", "value_table"]

KERNEL_SOURCES: dict[str, str] = dict(_native.kernel_sources)
"""The CUDA sources that a plan is made for, by file name: `preprocess.cu` and what it includes."""

TILE: tuple[int, int] = _native.tile
"""Width and height of the part of a crop that a block of threads makes."""


class BatchPlan:
    """What the kernel is told of a batch: a job for each image, and the tables of weights that the jobs refer to.

    Args:
        spec: How images are prepared.
    """

    def __init__(self, spec: Preprocess) -> None:
        self._spec = native_spec(spec)
        self._plan = _native.Plan()

    def fill(self, images: Sequence[tuple[int, int, int]]) -> list[Window]:
        """Plans another batch.

        Args:
            images: Width and height as stored, and EXIF's orientation, 1 to 8.

        Returns:
            For each, the window that has to be in memory.
        """
        return self._plan.fill(list(images), self._spec)

    @property
    def pixel_bytes(self) -> int:
        """Bytes that all windows take, one behind the other."""
        return self._plan.pixel_bytes

    @property
    def jobs(self) -> bytes:
        """A `Job` of cpp/src/cuda/job.hpp for each image."""
        return self._plan.jobs

    @property
    def numbers(self) -> bytes:
        """The tables, int32."""
        return self._plan.numbers


def value_table(spec: Preprocess) -> npt.NDArray[np.float32]:
    """What each channel's 256 values become, `[3, 256]` float32, by the native core's operations."""
    return np.frombuffer(_native.normalised(native_spec(spec)), np.float32).reshape(3, 256)
