"""The kernel of cpp/src/cuda/preprocess.cu in NumPy: it follows a plan's jobs and tables, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

_AXIS = [(name, "<i4") for name in ("first", "count", "weights", "taps", "outputs", "to")]
JOB = np.dtype(
    {
        "names": ["pixels", "row_stride", "column_stride", "x", "y", "vertical_first"],
        "formats": ["<i8", "<i8", "<i8", _AXIS, _AXIS, "?"],
        "offsets": [0, 8, 16, 24, 48, 72],
        "itemsize": 80,
    }
)
"""`Job` of cpp/src/cuda/job.hpp."""


def run_plan(
    jobs: bytes,
    numbers: npt.NDArray[np.int32],
    pixels: npt.NDArray[np.uint8],
    *,
    table: npt.NDArray[np.float32],
    fill: tuple[int, ...],
    crop: tuple[int, int],
) -> npt.NDArray[np.float32]:
    """What the kernel writes for a batch.

    Args:
        jobs: One an image.
        numbers: The tables.
        pixels: Of all images.
        table: `[3, 256]`.
        fill: Of what the crop has beyond the image.
        crop: Width and height.

    Returns:
        `[images, 3, height, width]` float32.
    """
    width, height = crop
    made = np.empty((len(jobs) // JOB.itemsize, 3, height, width), np.float32)
    for tensor, job in zip(made, np.frombuffer(jobs, JOB), strict=True):
        rgb = np.empty((3, height, width), np.uint8)
        rgb[:] = np.reshape(fill, (3, 1, 1))
        rows, columns = (slice(axis["to"], axis["to"] + axis["outputs"]) for axis in (job["y"], job["x"]))
        rgb[:, rows, columns] = _resized(job, numbers, pixels)
        for channel in range(3):
            tensor[channel] = table[channel][rgb[channel]]
    return made


def _resized(job: Any, numbers: npt.NDArray[np.int32], pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    one, two = (job["y"], job["x"]) if job["vertical_first"] else (job["x"], job["y"])
    steps = (int(job["column_stride"]), int(job["row_stride"]))
    step, line_step = steps[::-1] if job["vertical_first"] else steps
    # The first pass makes [3, lines, outputs] of the lines that the second one needs.
    lines = np.arange(*_inputs(two, numbers))
    origin = job["pixels"] + np.arange(3)[:, None, None] + (lines * line_step)[:, None]
    middle = _sums(one, numbers, lambda at: pixels[origin + at * step])
    done = _sums(two, numbers, lambda at: middle[:, at - lines[0]].swapaxes(1, 2))
    return done if job["vertical_first"] else done.swapaxes(1, 2)


def _column(axis: Any, name: str, numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return numbers[axis[name] : axis[name] + axis["outputs"]]


def _inputs(axis: Any, numbers: npt.NDArray[np.int32]) -> tuple[int, int]:
    first, count = _column(axis, "first", numbers), _column(axis, "count", numbers)
    return int(first[0]), int(first[-1] + count[-1])


def _sums(
    axis: Any, numbers: npt.NDArray[np.int32], read: Callable[[Any], npt.NDArray[np.uint8]]
) -> npt.NDArray[np.uint8]:
    """The weighted sums of an axis's outputs, rounded to a byte; `read` gives the inputs of given numbers."""
    first, count = _column(axis, "first", numbers), _column(axis, "count", numbers)
    taps, outputs = int(axis["taps"]), int(axis["outputs"])
    weights = numbers[axis["weights"] : axis["weights"] + outputs * taps].reshape(outputs, taps)
    total: Any = np.int32(1 << 21)
    for tap in range(int(count.max())):
        used = tap < count
        weight = np.where(used, weights[:, tap], 0).astype(np.int32)
        total = total + weight * read(np.where(used, first + tap, first).astype(np.int64)).astype(np.int32)
    rounded: npt.NDArray[np.uint8] = np.clip(total >> 22, 0, 255).astype(np.uint8)
    return rounded
