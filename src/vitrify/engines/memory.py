"""What a worker holds of the GPU, given back once, whoever holds it last."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable

from vitrify.engines.gpu import Cuda
from vitrify.errors import DeviceError


def give_back(function: Callable[[int], None], handle: int) -> None:
    """Frees something of the GPU's, and goes on where that fails.

    A call fails here because the GPU failed before, which was said then. What comes after it has to be freed as well.
    """
    with contextlib.suppress(DeviceError):
        function(handle)


class DeviceMemory:
    """Memory of the GPU, which lives as long as somebody holds this object: a worker, or an array that it gave.

    Args:
        cuda: The GPU.
        size: Bytes.

    Attributes:
        address: Of the first byte.

    Raises:
        DeviceError: Not enough of it.
    """

    def __init__(self, cuda: Cuda, size: int) -> None:
        self.address = cuda.allocate(max(size, 1))
        weakref.finalize(self, give_back, cuda.free, self.address)
