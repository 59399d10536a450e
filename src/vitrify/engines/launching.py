"""Compiled kernels on the GPU, through the driver's API in NVIDIA's cuda-bindings."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from vitrify.errors import DeviceError, MissingExtraError

Argument: TypeAlias = ctypes.c_void_p | ctypes.c_int32 | ctypes.c_uint32
"""What a kernel is called with: an address on the GPU, or a number."""


class Launcher(Protocol):
    """What the kernel needs of a driver. Modules, functions and streams are integers."""

    def load(self, cubin: bytes, name: str) -> tuple[int, int]:
        """A module for the calling thread's GPU, and its function of that name."""

    def unload(self, module: int) -> None:
        """Gives a module back."""

    def launch(
        self,
        function: int,
        *,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Argument],
        stream: int,
    ) -> None:
        """Gives a stream a kernel to run; the arguments are copied."""


class BoundLauncher:
    """`Launcher` through the CUDA driver.

    Raises:
        MissingExtraError: cuda-bindings is not installed.
        DeviceError: From a call, what the driver says.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import driver, runtime
        except ImportError as error:
            raise MissingExtraError(
                "kernels are launched through cuda-bindings", extra="tensorrt", package="cuda-bindings"
            ) from error
        self._driver: Any = driver
        self._runtime: Any = runtime

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *results = getattr(self._driver, name)(*arguments)
        if int(status) != 0:
            raise DeviceError(f"{name} failed", got=status.name)
        return results[0] if results else None

    def _enter(self) -> None:
        # The driver's calls need a context, which the runtime's own calls make and give to a thread.
        (status,) = self._runtime.cudaFree(0)
        if int(status) != 0:
            raise DeviceError("cudaFree failed", got=status.name)

    def load(self, cubin: bytes, name: str) -> tuple[int, int]:
        """A module for the calling thread's GPU, and its function of that name."""
        self._enter()
        module = self._call("cuModuleLoadData", cubin)
        return int(module), int(self._call("cuModuleGetFunction", module, name.encode()))

    def unload(self, module: int) -> None:
        """Gives a module back."""
        self._enter()
        self._call("cuModuleUnload", self._driver.CUmodule(module))

    def launch(
        self,
        function: int,
        *,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Argument],
        stream: int,
    ) -> None:
        """Gives a stream a kernel to run; the calling thread has used the GPU before, if only for a copy."""
        addresses = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        self._call(
            "cuLaunchKernel",
            self._driver.CUfunction(function),
            *grid,
            *block,
            0,  # shared memory beside what the kernel declares
            self._driver.CUstream(stream),
            ctypes.addressof(addresses),
            0,
        )


@functools.cache
def launcher() -> Launcher:
    """The driver of this process.

    Raises:
        MissingExtraError: As `BoundLauncher`.
    """
    return BoundLauncher()
