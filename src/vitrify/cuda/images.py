"""Images on their way into an engine: decoded into page-locked memory, prepared on the GPU where the engine reads.

A stage has memory and a stream of its own, so that one batch is decoded and another is copied and prepared while the
GPU infers a third. Its memory grows with the largest batch so far, and then no more.

The kernel is compiled at run time for the GPU at hand; NVRTC needs neither nvcc nor a GPU. The compiled code is kept
beside TensorRT's timing caches, under a name that says what it was made from, by what, for what:
`preprocess-<sources>-nvrtc<version>-sm<compute capability>.cubin`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vitrify.cuda.arrays import DeviceArray, Tensor, host_bytes
from vitrify.cuda.driver import Argument, Cuda, Launcher, launcher
from vitrify.errors import DeviceError, ImageError, MissingExtraError, RuntimeFailureError, StorageError
from vitrify.files import atomic_write
from vitrify.machine import cache_folder
from vitrify.pixels import Decoders
from vitrify.pixels.batches import KERNEL_SOURCES, TILE, BatchPlan, StoredImage, value_table
from vitrify.spec import ModelSpec, Preprocess

Infer = Callable[[DeviceArray, int, DeviceArray], None]
"""Orders an inference into a stream: from the input, on that stream, to the output."""

_TABLE_BYTES = 3 * 256 * 4
_MAIN = "preprocess.cu"
_DIGEST = hashlib.sha256().digest_size


class GpuImages:
    """The preprocessing kernel of an engine's GPU, and the stages of the specs that were asked for.

    Args:
        cuda: The GPU.
        pixels: `gpu` makes it an error that the kernel cannot be had, `auto` does not, `cpu` looks for none.

    Raises:
        MissingExtraError, DeviceError: With `gpu`, why not.
    """

    def __init__(self, cuda: Cuda, pixels: Literal["auto", "cpu", "gpu"]) -> None:
        self._cuda = cuda
        self._lock = threading.Lock()
        self._stages: dict[Preprocess, ImageStages] = {}
        self._pixels = pixels
        if pixels == "gpu":
            assert self._kernel is not None  # else it says why not

    @functools.cached_property
    def _kernel(self) -> tuple[Launcher, bytes] | None:
        # Not before somebody asks: an engine that is opened for tensors has no use for it.
        if self._pixels == "cpu":
            return None
        try:
            return launcher(), preprocessing_cubin(self._cuda.gpu().compute_capability)
        except (MissingExtraError, DeviceError):
            if self._pixels == "gpu":
                raise
            return None

    @property
    def available(self) -> bool:
        """Whether images can be prepared on the GPU."""
        return self._kernel is not None

    def stages(self, tensors: tuple[Tensor, ...], largest: int, spec: ModelSpec) -> ImageStages:
        """The stages for a spec, made when they are asked for first.

        Args:
            tensors: Of the engine.
            largest: Images in its largest batch.
            spec: Names the input and the output, and says how images are prepared.

        Raises:
            RuntimeFailureError: There is no kernel, or the engine does not take what the spec's images become.
            DeviceError: The driver refuses the kernel.
        """
        if self._kernel is None:
            raise RuntimeFailureError("no kernel prepares images", hint="open the engine with pixels=gpu to learn why")
        with self._lock:
            if spec.preprocess not in self._stages:
                named = {tensor.name: tensor for tensor in tensors}
                self._stages[spec.preprocess] = ImageStages(
                    self._cuda,
                    *self._kernel,
                    source=named[spec.input.name],
                    target=named[spec.output.name],
                    largest=largest,
                    spec=spec.preprocess,
                )
            return self._stages[spec.preprocess]

    def close(self) -> None:
        """Gives all memory back."""
        while self._stages:
            self._stages.popitem()[1].close()


class ImageStages:
    """The stages of an engine; one is lent to each batch under way.

    Args:
        cuda: The GPU.
        launcher: Its driver.
        cubin: The preprocessing kernel, compiled for it.
        source: The engine's input.
        target: The output that is asked for.
        largest: Images in the largest batch.
        spec: How images are prepared.

    Raises:
        RuntimeFailureError: The input is not what the spec's images become.
        DeviceError: Not enough GPU memory.
    """

    def __init__(
        self,
        cuda: Cuda,
        launcher: Launcher,
        cubin: bytes,
        *,
        source: Tensor,
        target: Tensor,
        largest: int,
        spec: Preprocess,
    ) -> None:
        shape = (3, spec.crop_height, spec.crop_width)
        if source.dtype not in ("float32", "float16") or source.shape != shape:
            raise RuntimeFailureError(
                "images cannot be prepared for this engine on the GPU",
                got=f"{source.dtype} {list(source.shape)}",
                expected=f"float32 or float16 {list(shape)}",
                hint="prepare them on the CPU (--pixels cpu)",
            )
        self.cuda, self.launcher, self.spec = cuda, launcher, spec
        self.source, self.target, self.largest = source, target, largest
        self._module, self.function = launcher.load(cubin, f"vitrify_preprocess_{source.dtype}")
        self.table = value_table(spec)
        self._lock = threading.Lock()
        self._idle: list[ImageStage] = []

    @contextlib.contextmanager
    def lend(self) -> Iterator[ImageStage]:
        """A stage for one batch, the one used last, or a new one where all are busy."""
        with self._lock:
            lent = self._idle.pop() if self._idle else None
        stage = lent or ImageStage(self)
        try:
            yield stage
        except BaseException:
            stage.close()  # what state it is in, nobody knows
            raise
        with self._lock:
            self._idle.append(stage)

    def close(self) -> None:
        """Gives everything back, once no stage is lent."""
        while self._idle:
            self._idle.pop().close()
        self.launcher.unload(self._module)


class ImageStage:
    """One batch's memory and stream. Not for several threads at once.

    Args:
        stages: Whose it is.
    """

    def __init__(self, stages: ImageStages) -> None:
        self._of = stages
        self._plan = BatchPlan(stages.spec)
        self._capacity = self._used = self._count = 0
        self._stream = self._pinned = self._device = self._input = self._output = self._answer = 0
        self._jobs_at = self._numbers_at = 0
        self._memory: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        cuda = stages.cuda
        try:
            self._stream = cuda.create_stream()
            self._input = cuda.allocate(stages.source.size(stages.largest))
            self._output = cuda.allocate(stages.target.size(stages.largest))
            self._answer = cuda.allocate_pinned(stages.target.size(stages.largest))
        except BaseException:
            self.close()
            raise

    def decode(self, images: Sequence[StoredImage], decoders: Decoders) -> list[ImageError | None]:
        """Plans a batch and decodes it into page-locked memory.

        Args:
            images: At most the largest batch, opened for this spec.
            decoders: Whose threads decode.

        Returns:
            None for each image, or what is wrong with it; its row is computed, and means nothing.

        Raises:
            RuntimeFailureError: More images than the largest batch.
            DeviceError: Not enough memory for the pixels.
        """
        if len(images) > self._of.largest:
            raise RuntimeFailureError(
                "there are too many images", got=len(images), expected=f"{self._of.largest} or fewer"
            )
        windows = self._plan.fill([(image.width, image.height, image.orientation) for image in images])
        # The table of values, the pixels, the jobs and the tables of weights, so that one copy takes them all.
        table, jobs, numbers = self._of.table, self._plan.jobs, self._plan.numbers
        self._jobs_at = table.nbytes + self._plan.pixel_bytes
        self._numbers_at = self._jobs_at + len(jobs)
        self._used = self._numbers_at + len(numbers)
        self._count = len(images)
        self._reserve(self._used)
        memory = self._memory
        memory[: table.nbytes] = table.reshape(-1).view(np.uint8)
        memory[self._jobs_at : self._numbers_at] = np.frombuffer(jobs, np.uint8)
        memory[self._numbers_at : self._used] = np.frombuffer(numbers, np.uint8)
        return decoders.decode(images, windows, memory[table.nbytes : self._jobs_at])

    def infer(self, count: int, infer: Infer) -> npt.NDArray[Any]:
        """Copies the batch, prepares it where the engine reads, infers, and waits.

        Args:
            count: Rows of the inference, at least the batch's images; what the others hold is left as it is.
            infer: Orders the inference.

        Returns:
            `[images, …]`, the output's rows of the images, a new array.

        Raises:
            DeviceError: The GPU failed.
        """
        cuda, source, target = self._of.cuda, self._of.source, self._of.target
        cuda.copy(self._device, self._pinned, self._used, self._stream)
        self._launch()
        infer(
            DeviceArray(address=self._input, shape=(count, *source.shape), dtype=source.dtype, owner=self),
            self._stream,
            DeviceArray(address=self._output, shape=(count, *target.shape), dtype=target.dtype, owner=self),
        )
        size = target.size(self._count)
        cuda.copy(self._answer, self._output, size, self._stream)
        cuda.synchronize(self._stream)
        rows: npt.NDArray[Any] = host_bytes(self._answer, size).view(target.dtype).copy()
        return rows.reshape(self._count, *target.shape)

    def _launch(self) -> None:
        spec, (tile_width, tile_height) = self._of.spec, TILE
        red, green, blue = spec.fill
        arguments: list[Argument] = [
            ctypes.c_void_p(self._device + self._jobs_at),
            ctypes.c_void_p(self._device + self._numbers_at),
            ctypes.c_void_p(self._device + _TABLE_BYTES),
            ctypes.c_void_p(self._device),
            ctypes.c_uint32(red | green << 8 | blue << 16),
            ctypes.c_int32(spec.crop_width),
            ctypes.c_int32(spec.crop_height),
            ctypes.c_void_p(self._input),
        ]
        self._of.launcher.launch(
            self._of.function,
            grid=(-(-spec.crop_width // tile_width), -(-spec.crop_height // tile_height), self._count),
            block=(tile_width, tile_height, 1),
            arguments=arguments,
            stream=self._stream,
        )

    def _reserve(self, size: int) -> None:
        if size <= self._capacity:
            return
        self._release_pixels()
        capacity = size + size // 4
        self._pinned = self._of.cuda.allocate_pinned(capacity)
        self._device = self._of.cuda.allocate(capacity)
        self._memory = host_bytes(self._pinned, capacity)
        self._capacity = capacity

    def _release_pixels(self) -> None:
        self._capacity, self._memory = 0, np.empty(0, np.uint8)
        if self._pinned:
            self._of.cuda.free_pinned(self._pinned)
        if self._device:
            self._of.cuda.free(self._device)
        self._pinned = self._device = 0

    def close(self) -> None:
        """Gives everything back. Closing twice does nothing."""
        cuda = self._of.cuda
        if self._stream:
            cuda.synchronize(self._stream)
            cuda.destroy_stream(self._stream)
        self._release_pixels()
        for address in filter(None, (self._input, self._output)):
            cuda.free(address)
        if self._answer:
            cuda.free_pinned(self._answer)
        self._stream = self._input = self._output = self._answer = 0


def preprocessing_cubin(compute_capability: str) -> bytes:
    """The kernel's machine code, from the cache where it is there and undamaged.

    Args:
        compute_capability: Such as `9.0`.

    Raises:
        MissingExtraError: It is not in the cache, and NVRTC is not installed.
        DeviceError: NVRTC does not know this GPU, or does not compile the kernel.
    """
    library = _Nvrtc()
    folder = cache_folder() / "tensorrt"
    sources = hashlib.sha256("\0".join(f"{name}\0{text}" for name, text in sorted(KERNEL_SOURCES.items())).encode())
    architecture = compute_capability.replace(".", "")
    path = folder / f"preprocess-{sources.hexdigest()[:16]}-nvrtc{library.version}-sm{architecture}.cubin"
    with contextlib.suppress(OSError):
        known = path.read_bytes()
        if hashlib.sha256(known[_DIGEST:]).digest() == known[:_DIGEST]:
            return known[_DIGEST:]
    cubin = library.compile(compute_capability)
    with contextlib.suppress(OSError, StorageError):  # what cannot be kept is compiled again the next time
        atomic_write(path, hashlib.sha256(cubin).digest() + cubin)
    return cubin


class _Nvrtc:
    """NVIDIA's run-time compiler through cuda-bindings."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import nvrtc

            self._nvrtc: Any = nvrtc
            major, minor = self._call("nvrtcVersion")
        except (ImportError, OSError, RuntimeError) as error:  # the bindings, or the library that they look for
            raise MissingExtraError(
                f"the preprocessing kernel is compiled with NVRTC, which cannot be loaded: {error}",
                extra="tensorrt",
                package="nvidia-cuda-nvrtc",
            ) from error
        self.version = f"{major}.{minor}"

    def compile(self, compute_capability: str) -> bytes:
        """The kernel as a cubin."""
        architecture = int(compute_capability.replace(".", ""))
        known = self._call("nvrtcGetNumSupportedArchs") and self._call("nvrtcGetSupportedArchs")
        if architecture not in known:
            raise DeviceError(
                "NVRTC cannot compile for this GPU",
                got=f"compute capability {compute_capability}, NVRTC {self.version}",
                expected=", ".join(f"{number // 10}.{number % 10}" for number in known),
                hint="install the nvidia-cuda-nvrtc of another CUDA version, or prepare images on the CPU",
            )
        headers = {name: text.encode() for name, text in KERNEL_SOURCES.items() if name != _MAIN}
        program = self._call(
            "nvrtcCreateProgram",
            KERNEL_SOURCES[_MAIN].encode(),
            _MAIN.encode(),
            len(headers),
            list(headers.values()),
            [name.encode() for name in headers],
        )
        try:
            options = [b"--std=c++17", f"--gpu-architecture=sm_{architecture}".encode()]
            (status,) = self._nvrtc.nvrtcCompileProgram(program, len(options), options)
            if int(status) != 0:
                log = self._text("nvrtcGetProgramLogSize", "nvrtcGetProgramLog", program)
                raise DeviceError("NVRTC does not compile the preprocessing kernel", got=log.rstrip(b"\0\n ").decode())
            return self._text("nvrtcGetCUBINSize", "nvrtcGetCUBIN", program)
        finally:
            self._nvrtc.nvrtcDestroyProgram(program)

    def _text(self, size: str, get: str, program: Any) -> bytes:
        text = b" " * int(self._call(size, program))
        self._call(get, program, text)  # writes into it, as NVIDIA's samples do
        return text

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *results = getattr(self._nvrtc, name)(*arguments)
        if int(status) != 0:
            raise DeviceError(f"{name} failed", got=status.name)
        return results[0] if len(results) == 1 else results
