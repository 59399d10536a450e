"""Decodes every image once before hours are spent on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitrify.errors import DatasetError, ImageError
from vitrify.machine import available_threads
from vitrify.pixels import read_rgb
from vitrify.progress import SILENT, Progress

BadImage: TypeAlias = tuple[Path, str]
"""A path and the reason why it cannot be used."""


def check_images(
    paths: Sequence[Path],
    progress: Progress = SILENT,
    *,
    keep: Callable[[Path, npt.NDArray[np.uint8]], None] | None = None,
) -> list[BadImage]:
    """Decodes every image, several at once.

    Args:
        paths: What to check.
        progress: Shows a bar.
        keep: Gets each decoded image, `[H, W, 3]` uint8, in the thread that decoded it; for a cache.

    Returns:
        The unreadable ones with the reason, in the order of `paths`.
    """

    def check(path: Path) -> BadImage | None:
        try:
            pixels = read_rgb(path)
        except ImageError as error:
            detail = f" ({error.got})" if error.got else ""
            return path, error.what.removeprefix(f"{path}: ") + detail
        if keep is not None:
            keep(path, pixels)
        return None

    pool = ThreadPoolExecutor(available_threads())
    try:
        results = progress.track(pool.map(check, paths), label="checking the images", total=len(paths))
        return [bad for bad in results if bad is not None]
    finally:
        # Ctrl-C must not wait for a hundred thousand photos.
        pool.shutdown(cancel_futures=True)


def bad_images_error(bad: Sequence[BadImage], root: Path, *, limit: int = 20, hint: str | None = None) -> DatasetError:
    """The error for what `check_images` found: the first `limit` of them, and how many there are.

    Args:
        bad: At least one.
        root: Paths below it are shown relative to it.
        limit: Images to list.
        hint: The option that goes on without them.
    """
    lines = [
        f"{path.relative_to(root) if path.is_relative_to(root) else path}: {reason}" for path, reason in bad[:limit]
    ]
    if len(bad) > limit:
        lines.append(f"and {len(bad) - limit} more")
    return DatasetError(
        f"{len(bad)} unreadable {'image' if len(bad) == 1 else 'images'} in {root}",
        got="\n       ".join(lines),
        hint=hint,
    )
