"""A GPU through NVIDIA's cuda-bindings: memory, streams, graphs and compiled kernels.

Addresses, streams, events, graphs and modules are integers and sizes are bytes, so that a stand-in on host memory is a
subclass of a few lines.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

from vitrify.artifacts import Gpu
from vitrify.cuda.arrays import CUDA, CUDA_MANAGED
from vitrify.errors import DeviceError, MissingExtraError

_NO_DEVICE = ("cudaErrorNoDevice", "cudaErrorInvalidDevice", "cudaErrorStubLibrary")
_LOST = (
    "cudaErrorECCUncorrectable",
    "cudaErrorIllegalAddress",
    "cudaErrorLaunchTimeout",
    "cudaErrorContextIsDestroyed",
    "cudaErrorAssert",
    "cudaErrorHardwareStackError",
    "cudaErrorIllegalInstruction",
    "cudaErrorMisalignedAddress",
    "cudaErrorInvalidAddressSpace",
    "cudaErrorInvalidPc",
    "cudaErrorLaunchFailure",
)
"""After one of these, every later call of the process fails: CUDA's reference says of each that the process must be
ended and started again (https://docs.nvidia.com/cuda/cuda-runtime-api, cudaError_t)."""
_OLD_DRIVER = ("cudaErrorInsufficientDriver", "cudaErrorSystemDriverMismatch")


class Cuda:
    """The first visible GPU.

    Attributes:
        memory_kinds: DLPack's numbers of the memory that an array may lie in.

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
            return results[0] if len(results) == 1 else tuple(results)
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
        self._cuda.cudaGetLastError()  # else a later check of TensorRT's own finds this one
        if code == "cudaErrorMemoryAllocation":
            raise self._out_of_memory(name, arguments)
        raise DeviceError(
            f"{name} failed",
            got=f"{code}: {self._cuda.cudaGetErrorString(status)[1].decode()}",
            hint="this process cannot use the GPU any more: end it and start it again" if code in _LOST else None,
        )

    def _out_of_memory(self, name: str, arguments: tuple[Any, ...]) -> DeviceError:
        wanted = f"{_shown(arguments[0])} for {name}" if name in ("cudaMalloc", "cudaMallocHost") else None
        if name == "cudaMallocHost":
            return DeviceError(
                "the host has not enough memory that can be page-locked",
                expected=wanted,
                hint="build with a smaller largest batch (--profile), use fewer workers, or free memory",
            )
        status, *sizes = self._cuda.cudaMemGetInfo()
        return DeviceError(
            "the GPU is out of memory",
            got=f"{_shown(sizes[0])} of {_shown(sizes[1])} free" if int(status) == 0 else f"{name} failed",
            expected=wanted,
            hint="build with a smaller largest batch (--profile), use fewer workers, or free the GPU",
        )

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Makes it the calling thread's device in the block: each thread has one of its own, and may use another."""
        before = self._call("cudaGetDevice")
        self._call("cudaSetDevice", 0)
        try:
            yield
        finally:
            if before != 0:
                with contextlib.suppress(DeviceError):
                    self._call("cudaSetDevice", before)

    def gpu(self) -> Gpu:
        """The device."""
        properties = self._call("cudaGetDeviceProperties", 0)
        return Gpu(
            name=properties.name.split(b"\0")[0].decode(),
            compute_capability=f"{properties.major}.{properties.minor}",
            memory_bytes=int(properties.totalGlobalMem),
            driver=_dotted(self._call("cudaDriverGetVersion")),
        )

    def bytes_in_use(self) -> int:
        """Of the device's memory, by all processes, this one's CUDA context included."""
        free, total = self._call("cudaMemGetInfo")
        return int(total) - int(free)

    def allocate(self, size: int) -> int:
        """Device memory."""
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        """Gives device memory back."""
        self._call("cudaFree", address)

    def allocate_pinned(self, size: int) -> int:
        """Page-locked host memory, which copies at full speed and asynchronously."""
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


Argument: TypeAlias = ctypes.c_void_p | ctypes.c_int32 | ctypes.c_uint32
"""What a kernel is called with: an address on the GPU, or a number."""


class Launcher:
    """Compiled kernels on the GPU, through the driver's API.

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
def cuda() -> Cuda:
    """The GPU of this process.

    Raises:
        MissingExtraError, DeviceError: As `Cuda`.
    """
    return Cuda()


@functools.cache
def launcher() -> Launcher:
    """The driver of this process.

    Raises:
        MissingExtraError: As `Launcher`.
    """
    return Launcher()


def require_gpu() -> Gpu:
    """The GPU, for work that cannot be done without one.

    Raises:
        MissingExtraError, DeviceError: As `Cuda`: why there is none that can be used.
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


def _shown(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 10**8 else f"{size / 1e6:.2f} MB"


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
