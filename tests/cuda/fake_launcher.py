"""A stand-in for the driver's launches: the preprocessing kernel is carried out in NumPy, on the fake GPU's memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.cuda.fake_cuda import FakeCuda
from tests.pixels.batch_reference import JOB, run_plan
from vitrify.cuda.driver import Argument, Launcher


class FakeLauncher(Launcher):
    """`Launcher` on host memory; work runs when its stream is waited for.

    Attributes:
        launched: Images of each launch.
        modules: What was loaded and not given back.
    """

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.launched: list[int] = []
        self.modules: dict[int, str] = {}

    def load(self, cubin: bytes, name: str) -> tuple[int, int]:
        assert cubin.startswith(b"\x7fELF")
        assert name.encode() in cubin
        handle = 1 + max(self.modules, default=0)
        self.modules[handle] = name
        return handle, handle

    def unload(self, module: int) -> None:
        del self.modules[module]

    def launch(
        self,
        function: int,
        *,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Argument],
        stream: int,
    ) -> None:
        jobs, numbers, pixels, table, fill, width, height, out = (int(argument.value or 0) for argument in arguments)
        assert block == (32, 8, 1)
        assert grid[0] * block[0] >= width > (grid[0] - 1) * block[0]
        assert grid[1] * block[1] >= height > (grid[1] - 1) * block[1]
        dtype = self.modules[function].removeprefix("vitrify_preprocess_")
        self.launched.append(grid[2])

        def work() -> None:
            made = run_plan(
                self._bytes(jobs)[: grid[2] * JOB.itemsize].tobytes(),
                self._bytes(numbers)[: self._bytes(numbers).size // 4 * 4].view(np.int32),
                self._bytes(pixels),
                table=self._bytes(table)[:3072].view(np.float32).reshape(3, 256),
                fill=(fill & 255, fill >> 8 & 255, fill >> 16),
                crop=(width, height),
            ).astype(dtype)
            self._bytes(out)[: made.nbytes] = made.reshape(-1).view(np.uint8)

        self.cuda.give(stream, work)

    def _bytes(self, address: int) -> npt.NDArray[Any]:
        """Device memory from an address to the end of its block."""
        for start, block in self.cuda.memory.items():
            if start <= address < start + len(block):
                size = start + len(block) - address
                return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        raise AssertionError("an address outside the GPU's memory")
