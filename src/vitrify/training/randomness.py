"""Every random number of a run comes from (seed, epoch, position).

So a run that was stopped and goes on ends as one that never stopped, and the number of workers changes nothing.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

_MASK = (1 << 64) - 1


def mixed(*numbers: int) -> int:
    """64 bits that depend on every number and on their order: SplitMix64's finaliser after each."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def seed_sample(seed: int, epoch: int, index: int) -> None:
    """Seeds what timm's and torchvision's transforms draw from, in this process. CUDA's generators are left alone."""
    value = mixed(seed, epoch, index, 1)
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)  # noqa: NPY002 - timm's AutoAugment draws from the global generator
    # A hundredth of the time of torch.manual_seed, which looks for every kind of device.
    torch.default_generator.manual_seed(value)


def seed_step(seed: int, epoch: int, step: int) -> None:
    """Seeds what Mixup, random erasing, dropout and stochastic depth draw from, CUDA's generators included."""
    value = mixed(seed, epoch, step, 2)
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)  # noqa: NPY002 - timm's Mixup draws from the global generator
    torch.manual_seed(value)


def permutation(count: int, seed: int, epoch: int) -> list[int]:
    """The order of the training images in one epoch."""
    order: list[int] = np.random.default_rng(mixed(seed, epoch, 3)).permutation(count).tolist()
    return order


@contextlib.contextmanager
def kept_random_state() -> Iterator[None]:
    """Gives the caller's random generators back as they were; a library must not reseed its host."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002
