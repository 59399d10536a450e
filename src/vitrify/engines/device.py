"""GPU memory, streams and graphs through NVIDIA's cuda-bindings: the only module that imports it.

Everything is a plain integer (an address or a handle), so that a stand-in on host memory is a few lines.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from vitrify.engines.arrays import CUDA, CUDA_MANAGED
from vitrify.errors import DeviceError, MissingExtraError

_NO_DEVICE = ("cudaErrorNoDevice", "cudaErrorInvalidDevice", "cudaErrorStubLibrary")
_OLD_DRIVER = ("cudaErrorInsufficientDriver", "cudaErrorSystemDriverMismatch")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU.

    Attributes:
        name: As the driver says it.
        compute_capability: Such as `9.0`.
        memory_bytes: In all.
        driver: The newest CUDA that the driver knows, such as `13.0`.
    """

    name: str
    compute_capability: str
    memory_bytes: int
    driver: str


class Cuda(Protocol):
    """What a session needs of a GPU. Addresses and handles are integers; sizes are bytes.

    Attributes:
        memory_kinds: DLPack's numbers of the memory that an array may lie in.
    """

    memory_kinds: ClassVar[tuple[int, ...]]

    def gpu(self) -> Gpu:
        """The current device."""

    def allocate(self, size: int) -> int:
        """Device memory."""

    def free(self, address: int) -> None:
        """Gives device memory back."""

    def allocate_pinned(self, size: int) -> int:
        """Page-locked host memory, which copies at full speed and asynchronously."""

    def free_pinned(self, address: int) -> None:
        """Gives page-locked memory back."""

    def create_stream(self) -> int:
        """A stream that does not wait for the default stream."""

    def destroy_stream(self, stream: int) -> None:
        """Ends a stream."""

    def synchronize(self, stream: int) -> None:
        """Waits until all work of a stream is done."""

    def create_event(self) -> int:
        """An event, for `wait_for`."""

    def destroy_event(self, event: int) -> None:
        """Ends an event."""

    def wait_for(self, stream: int, other: int, event: int) -> None:
        """Makes a stream wait, on the device, for what another has been given so far."""

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Copies on a stream between any two memories."""

    def capture(self, stream: int) -> contextlib.AbstractContextManager[list[int]]:
        """Records what a stream is given in the block; the list then holds the executable graph."""

    def launch(self, graph: int, stream: int) -> None:
        """Runs a graph on a stream."""

    def destroy_graph(self, graph: int) -> None:
        """Ends a graph."""


class BoundCuda:
    """`Cuda` on the first visible GPU.

    Raises:
        MissingExtraError: cuda-bindings is not installed.
        DeviceError: No GPU, or a driver that is too old; from a call, out of memory or another failure of the GPU.
    """

    memory_kinds: ClassVar[tuple[int, ...]] = (CUDA, CUDA_MANAGED)

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise MissingExtraError(
                "GPU memory is managed through cuda-bindings", extra="tensorrt", package="cuda-bindings"
            ) from error
        self._cuda: Any = runtime
        if self._call("cudaGetDeviceCount") < 1:
            raise _no_gpu("0 devices")
        self._call("cudaSetDevice", 0)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            status, *results = getattr(self._cuda, name)(*arguments)
        except RuntimeError as error:  # cuda-bindings finds no driver library at all
            raise _no_gpu(str(error)) from error
        if int(status) == 0:
            return results[0] if results else None
        code = status.name
        if code in _NO_DEVICE:
            raise _no_gpu(code)
        if code in _OLD_DRIVER:
            # The driver of 0 says that there is none at all.
            driver = self._cuda.cudaDriverGetVersion()[1]
            if not driver:
                raise _no_gpu("no NVIDIA driver")
            raise DeviceError(
                "the NVIDIA driver is too old",
                got=f"a driver for CUDA {_dotted(driver)}",
                expected=f"CUDA {_dotted(self._cuda.cudaRuntimeGetVersion()[1])} or newer",
                hint="update the driver, or install the cuda-bindings and TensorRT of its CUDA version",
            )
        if code == "cudaErrorMemoryAllocation":
            free, total = self._cuda.cudaMemGetInfo()[1:]
            raise DeviceError(
                "the GPU is out of memory",
                got=f"{free / 1e9:.2f} of {total / 1e9:.2f} GB free",
                expected=f"{arguments[0] / 1e9:.2f} GB for {name}" if arguments else None,
                hint="build with a smaller largest batch (--profile), use fewer workers, or free the GPU",
            )
        raise DeviceError(f"{name} failed", got=f"{code}: {self._cuda.cudaGetErrorString(status)[1].decode()}")

    def gpu(self) -> Gpu:
        """The current device."""
        properties = self._call("cudaGetDeviceProperties", 0)
        return Gpu(
            name=properties.name.split(b"\0")[0].decode(),
            compute_capability=f"{properties.major}.{properties.minor}",
            memory_bytes=int(properties.totalGlobalMem),
            driver=_dotted(self._call("cudaDriverGetVersion")),
        )

    def allocate(self, size: int) -> int:
        """Device memory."""
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        """Gives device memory back."""
        self._call("cudaFree", address)

    def allocate_pinned(self, size: int) -> int:
        """Page-locked host memory."""
        return int(self._call("cudaMallocHost", size))

    def free_pinned(self, address: int) -> None:
        """Gives page-locked memory back."""
        self._call("cudaFreeHost", address)

    def create_stream(self) -> int:
        """A stream that does not wait for the default stream."""
        return int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Ends a stream."""
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Waits until all work of a stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def create_event(self) -> int:
        """An event, for `wait_for`."""
        return int(self._call("cudaEventCreateWithFlags", self._cuda.cudaEventDisableTiming))

    def destroy_event(self, event: int) -> None:
        """Ends an event."""
        self._call("cudaEventDestroy", event)

    def wait_for(self, stream: int, other: int, event: int) -> None:
        """Makes a stream wait, on the device, for what another has been given so far."""
        self._call("cudaEventRecord", event, other)
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Copies on a stream between any two memories."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDefault  # the driver sees from the addresses which way
        self._call("cudaMemcpyAsync", target, source, size, kind, stream)

    @contextlib.contextmanager
    def capture(self, stream: int) -> Iterator[list[int]]:
        """Records what a stream is given in the block; the list then holds the executable graph."""
        recorded: list[int] = []
        # Other threads may allocate meanwhile: only this thread's calls are held to what a graph can record.
        self._call("cudaStreamBeginCapture", stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            yield recorded
        except BaseException:
            with contextlib.suppress(DeviceError):
                self._call("cudaGraphDestroy", self._call("cudaStreamEndCapture", stream))
            raise
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            recorded.append(int(self._call("cudaGraphInstantiate", graph, 0)))
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """Runs a graph on a stream."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """Ends a graph."""
        self._call("cudaGraphExecDestroy", graph)


@functools.cache
def cuda() -> Cuda:
    """The GPU of this process.

    Raises:
        MissingExtraError, DeviceError: As `BoundCuda`.
    """
    return BoundCuda()


def require_gpu() -> Gpu:
    """The GPU, for work that cannot be done without one.

    Raises:
        MissingExtraError, DeviceError: As `BoundCuda`: why there is none that can be used.
    """
    return cuda().gpu()


def gpu_or_none() -> Gpu | None:
    """The GPU, or None on a machine without one that can be used."""
    try:
        return require_gpu()
    except (DeviceError, MissingExtraError):
        return None


def _no_gpu(got: str) -> DeviceError:
    return DeviceError(
        "there is no NVIDIA GPU that can be used",
        got=got,
        expected="a GPU that nvidia-smi lists",
        hint="use the ONNX file with OpenVINO or ONNX Runtime here; vitrify doctor shows what this machine has",
    )


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
