"""The preprocessing kernel, compiled at run time for the GPU at hand; NVRTC needs neither nvcc nor a GPU.

The compiled code is kept beside TensorRT's timing caches, under a name that says what it was made from, by what, for
what: `preprocess-<sources>-nvrtc<version>-sm<compute capability>.cubin`.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

from vitrify.errors import DeviceError, MissingExtraError, StorageError
from vitrify.files import atomic_write
from vitrify.machine import cache_folder
from vitrify.pixels.batches import KERNEL_SOURCES

_MAIN = "preprocess.cu"
_DIGEST = hashlib.sha256().digest_size


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
