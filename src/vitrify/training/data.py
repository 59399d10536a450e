"""Image folders to batches: augmented ones to train on, and those of `vitrify.pixels` to validate with."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from vitrify.datasets import ImageFolder
from vitrify.errors import OptionError
from vitrify.machine import available_threads
from vitrify.pixels import preprocess, read_rgb
from vitrify.spec import Preprocess
from vitrify.training.config import TrainConfig
from vitrify.training.randomness import permutation, seed_sample

Batch: TypeAlias = tuple[Tensor, Tensor]
"""`[B, 3, H, W]` (uint8 for training, float32 normalised for validation) and `[B]` int64 class indices."""

_VALIDATION_TENSORS_LIMIT_BYTES = 512 << 20
_MAX_DEFAULT_WORKERS = 8


class ImageCache:
    """Decoded images up to a limit: an 8 x 8 scan costs more to open than to keep; photos soon do not fit."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.complete = True
        self._images: dict[Path, npt.NDArray[np.uint8]] = {}
        self._used_bytes = 0
        self._lock = threading.Lock()

    def keep(self, path: Path, pixels: npt.NDArray[np.uint8]) -> None:
        """Keeps the image where there is room. Threads may call this at once."""
        with self._lock:
            if self._used_bytes + pixels.nbytes > self.limit_bytes:
                self.complete = False
            else:
                self._images[path] = pixels
                self._used_bytes += pixels.nbytes

    def read(self, path: Path) -> npt.NDArray[np.uint8]:
        """The pixels of an image, `[H, W, 3]` uint8 RGB, from memory or from the disk."""
        kept = self._images.get(path)
        return read_rgb(path) if kept is None else kept

    def clear(self) -> None:
        """Drops every image: a worker process would get a copy of all of them."""
        self._images.clear()
        self._used_bytes = 0


class TrainImages(Dataset[Batch]):
    """Augmented images, a batch at a time. An index is `(epoch, position)`, and its random numbers come from both."""

    def __init__(self, folder: ImageFolder, transform: Any, cache: ImageCache, seed: int) -> None:
        self._folder = folder
        self._transform = transform
        self._cache = cache
        self._seed = seed

    def __getitem__(self, index: Any) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[tuple[int, int]]) -> Batch:
        """`[B, 3, H, W]` uint8 and `[B]` int64. PyTorch calls this with a whole batch, which saves the collation."""
        images = []
        for epoch, position in indices:
            path, _ = self._folder.samples[position]
            seed_sample(self._seed, epoch, position)
            images.append(self._transform(Image.fromarray(self._cache.read(path))))
        targets = [self._folder.samples[position][1] for _, position in indices]
        return torch.stack(images), torch.tensor(targets)


class ValImages(Dataset[Batch]):
    """Images as inference sees them, a batch at a time."""

    def __init__(self, folder: ImageFolder, spec: Preprocess, cache: ImageCache) -> None:
        self._folder = folder
        self._spec = spec
        self._cache = cache

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """`[B, 3, H, W]` float32 and `[B]` int64."""
        samples = [self._folder.samples[i] for i in indices]
        threads = 1 if get_worker_info() else None
        images = preprocess([self._cache.read(path) for path, _ in samples], self._spec, threads=threads)
        return torch.from_numpy(images), torch.tensor([target for _, target in samples])


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch in random order; set `epoch` before each.

    The last batch may be smaller. Where batches have to be even, it loses one image, another one each epoch.
    """

    def __init__(self, count: int, batch_size: int, seed: int, *, even: bool) -> None:
        self.epoch = 0
        self._count = count - count % 2 if even else count
        self._all = count
        self._batch_size = batch_size
        self._seed = seed

    def __len__(self) -> int:
        return math.ceil(self._count / self._batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = permutation(self._all, self._seed, self.epoch)[: self._count]
        for first in range(0, self._count, self._batch_size):
            yield [(self.epoch, position) for position in order[first : first + self._batch_size]]


@dataclass(frozen=True)
class Loaders:
    """What an epoch reads.

    Attributes:
        train: Augmented uint8 batches.
        batches: Decides their order; the loop sets its `epoch`.
        val: Normalised float32 batches, always the same.
        workers: Processes that prepare them.
    """

    train: DataLoader[Batch]
    batches: EpochBatches
    val: DataLoader[Batch] | list[Batch]
    workers: int


def make_loaders(
    train: ImageFolder, val: ImageFolder, config: TrainConfig, spec: Preprocess, *, cache: ImageCache, pin: bool = False
) -> Loaders:
    """Prepares the loaders of a run.

    Args:
        train: Images to learn from.
        val: Images to validate with.
        config: Gives the augmentation, the batch size, the seed and the workers.
        spec: The evaluation transform; training shares its size, interpolation and normalisation.
        cache: Decoded images; emptied where there are workers.
        pin: Pinned memory, for CUDA.
    """
    workers = config.workers
    if workers is None:
        workers = 0 if cache.complete else min(_MAX_DEFAULT_WORKERS, available_threads())
    val_images = ValImages(val, spec, cache)
    options: dict[str, Any] = {"num_workers": workers, "collate_fn": _as_it_is, "pin_memory": pin}
    val_bytes = len(val) * 3 * spec.crop_height * spec.crop_width * 4
    val_loader: DataLoader[Batch] | list[Batch]
    if val_bytes <= _VALIDATION_TENSORS_LIMIT_BYTES:
        size = config.batch_size
        val_loader = [val_images.__getitems__(range(len(val))[i : i + size]) for i in range(0, len(val), size)]
    else:
        val_loader = DataLoader(val_images, batch_size=config.batch_size, **options)
    if workers:
        cache.clear()
    batches = EpochBatches(len(train), config.batch_size, config.seed, even=config.mixes)
    train_images = TrainImages(train, _train_transform(config, spec), cache, config.seed)
    loader = DataLoader(train_images, batch_sampler=batches, persistent_workers=workers > 0, **options)
    return Loaders(train=loader, batches=batches, val=val_loader, workers=workers)


def _train_transform(config: TrainConfig, spec: Preprocess) -> Any:
    # Normalisation and random erasing come after, on whole batches and on the device (see loop.py), as in timm's own
    # prefetcher: a quarter of the bytes to move, and a third of the time on a CPU.
    try:
        return create_transform(
            (3, spec.crop_height, spec.crop_width),
            is_training=True,
            scale=(config.crop_min, 1.0),
            hflip=0.5 if config.hflip else 0.0,
            color_jitter=config.color_jitter or None,  # type: ignore[arg-type]  # None is what turns it off
            auto_augment=config.auto_augment or None,
            interpolation=spec.interpolation,
            mean=spec.mean,
            std=spec.std,
            normalize=False,
        )
    except (AssertionError, ValueError, KeyError, IndexError) as error:
        raise OptionError(
            "timm does not know this augmentation policy",
            got=f"auto_augment={config.auto_augment!r}",
            expected="such as rand-m9-mstd0.5-inc1, augmix-m5-w4-d2 or original",
        ) from error


def _as_it_is(batch: Batch) -> Batch:
    return batch
