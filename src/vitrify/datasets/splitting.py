"""Splits an image folder into training and validation images, class by class."""

from __future__ import annotations

import numpy as np

from vitrify.datasets.folder import ImageFolder
from vitrify.errors import DatasetError, OptionError


def stratified_split(folder: ImageFolder, val_fraction: float, seed: int) -> tuple[ImageFolder, ImageFolder]:
    """Draws the same share of every class for validation.

    A class of `n` images gives `round(n * val_fraction)` of them, at least one and at most `n - 1`. The draw depends on
    the seed and on the sorted paths of that class alone: other classes may grow without changing it.

    Args:
        folder: What to split.
        val_fraction: Above 0 and below 1.
        seed: 0 or more.

    Returns:
        The training and the validation images, both with all labels of `folder`.

    Raises:
        OptionError: A fraction that leaves one side empty.
        DatasetError: A class with one image cannot be in both.
    """
    if not 0 < val_fraction < 1:
        raise OptionError("val_fraction is out of range", got=val_fraction, expected="above 0 and below 1")
    single = [label for label, count in zip(folder.labels, folder.counts, strict=True) if count < 2]
    if single:
        raise DatasetError(
            f"too few images to split {folder.root}",
            got=f"fewer than two images in {', '.join(single[:8])}",
            expected="at least two images a class, one to train on and one to validate with",
            hint="add images, or split by hand into train/ and val/",
        )
    sides: tuple[list[int], list[int]] = ([], [])
    first = 0
    for label, count in zip(folder.labels, folder.counts, strict=True):
        order = np.random.default_rng([seed, *label.encode()]).permutation(count) + first
        val_count = min(count - 1, max(1, round(count * val_fraction)))
        sides[1].extend(order[:val_count].tolist())
        sides[0].extend(order[val_count:].tolist())
        first += count
    train, val = (
        ImageFolder(root=folder.root, labels=folder.labels, samples=tuple(folder.samples[i] for i in sorted(side)))
        for side in sides
    )
    return train, val
