"""A plan's file to checked bytes, bytes to an engine, and an engine to execution contexts.

TensorRT-RTX finishes its kernels on the GPU that runs them, when a context first meets a shape. Its runtime cache holds
the results: https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-runtime-cache.html
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrify.artifacts import PRODUCTS, Gpu, Manifest, Profile, not_intact, rebuild_command
from vitrify.cuda import Tensor
from vitrify.errors import ArtifactError, DeviceError, EngineError, RuntimeFailureError, StorageError
from vitrify.files import atomic_write
from vitrify.tensorrt.releases import TensorRt
from vitrify.tensorrt.watching import TensorRtLog, hold_interrupts, log_of

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "INT64": "int64",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


def require_fit(plan: str | os.PathLike[str], manifest: Manifest, trt: TensorRt, gpu: Gpu) -> None:
    """Holds a manifest to this machine.

    Raises:
        EngineError: Built for another TensorRT or GPU; says what differs.
    """
    differences = list(_differences(manifest, trt, gpu))
    if differences:
        raise EngineError(
            f"{plan} was not built for this machine",
            got="; ".join(f"{what}: {have}" for what, have, _ in differences),
            expected="; ".join(f"{what}: {want}" for what, _, want in differences),
            hint=f"{rebuild_command(plan)}  (from {manifest.onnx}, with the same options)",
        )


def _differences(manifest: Manifest, trt: TensorRt, gpu: Gpu) -> list[tuple[str, str, str]]:
    """(what, here, built) for everything that does not fit."""
    found = []
    if trt.release.flavour != manifest.flavour:
        return [("TensorRT", trt.name, PRODUCTS[manifest.flavour])]
    if not _version_fits(manifest, trt.version):
        found.append(("version", trt.version, manifest.tensorrt))
    here = gpu.compute_capability
    if manifest.flavour == "rtx":
        if here not in manifest.compute_capabilities:
            found.append(("compute capability", here, " or ".join(manifest.compute_capabilities)))
        return found
    level = manifest.config.hardware_compatible
    built = manifest.gpu
    if built is None:  # TensorRT builds on a GPU: no build of ours wrote this
        return [("GPU", gpu.name, "none named, so that the manifest fits no machine")]
    if level == "ampere+":
        if _numbers(here) < (8, 0):
            found.append(("compute capability", here, "8.0 or newer"))
    elif here != built.compute_capability:
        found.append(("compute capability", here, built.compute_capability))
    elif level == "none" and gpu.name != built.name:
        found.append(("GPU", gpu.name, built.name))
    return found


def _version_fits(manifest: Manifest, here: str) -> bool:
    if not manifest.config.version_compatible:
        return here == manifest.tensorrt
    return _numbers(here)[0] == _numbers(manifest.tensorrt)[0] and _numbers(here) >= _numbers(manifest.tensorrt)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


class PlanFile:
    """An open plan.

    Where a release gives a profile to one context, each further worker loads the plan again. The file stays open for
    that: a rebuild moves another file to its path, and this one still is what was opened. Its bytes are not kept, for a
    plan can have gigabytes, and on a Jetson the host's memory is the GPU's; they are hashed at each reading instead.

    Args:
        path: The plan.
        manifest: What it is held to; without one, later readings are held to the first.

    Raises:
        ArtifactError: No such file, or one that cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest | None) -> None:
        self._path, self._manifest = Path(path), manifest
        self._sha256 = manifest.plan_sha256 if manifest is not None else ""
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            raise ArtifactError(f"no such file: {path}", hint="check the path") from None
        except OSError as error:
            raise ArtifactError(f"cannot read {path}", got=error.strerror or error, hint="check the path") from error
        weakref.finalize(self, self._file.close)

    def read(self) -> bytes:
        """The whole plan.

        Raises:
            EngineError: These are not the bytes that were built.
        """
        self._file.seek(0)
        content = self._file.read()
        sha256 = hashlib.sha256(content).hexdigest()
        self._sha256 = self._sha256 or sha256
        if sha256 == self._sha256:
            return content
        if self._manifest is not None:
            raise not_intact(self._path, self._manifest, len(content))
        raise EngineError(f"{self._path} has changed since it was opened", hint="open it again")

    def close(self) -> None:
        """Closes the file. Closing twice does nothing."""
        self._file.close()


class KernelCache:
    """One `IRuntimeCache` for all contexts of an open engine.

    Args:
        path: Its file; one that is not there, cannot be read or is refused counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = b""
        self._cache: Any = None
        self._first: Any = None

    def config_for(self, engine: Any, strategy: Any) -> Any:
        """An `IRuntimeConfig` for a new context. Not for several threads at once.

        Args:
            engine: The `ICudaEngine`.
            strategy: Who gives the context its memory.
        """
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        if self._cache is None:
            self._first, self._cache = config, config.create_runtime_cache()
            with contextlib.suppress(OSError):
                self._known = self._path.read_bytes()
            # TensorRT-RTX holds it to its own version, the GPU and the driver, and leaves the cache empty where one
            # differs.
            if self._cache is not None and self._known and not self._cache.deserialize(self._known):
                self._known = b""
        if self._cache is not None:
            config.set_runtime_cache(self._cache)
        return config

    def save(self) -> None:
        """Keeps what is known by now; that it cannot be kept is no reason to fail what ran."""
        content = self._cache.serialize() if self._cache is not None else None
        if content is None or bytes(content) == self._known:
            return
        with contextlib.suppress(OSError, StorageError):
            atomic_write(self._path, bytes(content))
            self._known = bytes(content)


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedEngine:
    """A deserialised engine.

    Attributes:
        trt: The binding.
        handle: Its `ICudaEngine`.
        tensors: Inputs and outputs, inputs first.
        profiles: The batch sizes that it accepts.
        log: What TensorRT says.
        kernels: Kernels that were compiled earlier, where the release compiles them at run time.
        runtime: What it was made by, which has to outlive it.
    """

    trt: TensorRt
    handle: Any
    tensors: tuple[Tensor, ...]
    profiles: tuple[Profile, ...]
    log: TensorRtLog
    kernels: KernelCache | None = None
    runtime: Any = field(repr=False)

    @property
    def scratch_bytes(self) -> int:
        """What one context needs beside inputs and outputs, for the largest batch."""
        newer = hasattr(self.handle, "device_memory_size_v2")
        return int(self.handle.device_memory_size_v2 if newer else self.handle.device_memory_size)

    def new_context(self, scratch: int, size: int) -> Any:
        """An execution context.

        Args:
            scratch: Address of memory of the GPU for it alone, or for contexts that run one after the other.
            size: Its bytes, at least `scratch_bytes`.

        Raises:
            DeviceError: The GPU's memory does not suffice for its weights' and kernels' state.
        """
        mark = self.log.mark()
        with hold_interrupts():
            context = self._create_context()
        if context is None:
            raise DeviceError(
                "the GPU has not enough memory for another execution context",
                got=self.log.since(mark),
                hint="use fewer workers, or build with a smaller largest batch (--profile)",
            )
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(scratch, size)
        else:
            context.device_memory = scratch
        return context

    def _create_context(self) -> Any:
        strategy = self.trt.flag("ExecutionContextAllocationStrategy", "USER_MANAGED")
        if self.kernels is not None:
            return self.handle.create_execution_context(self.kernels.config_for(self.handle, strategy))
        if strategy is not None:
            return self.handle.create_execution_context(strategy)
        return self.handle.create_execution_context_without_device_memory()


def load_engine(
    trt: TensorRt,
    content: bytes,
    path: str | os.PathLike[str],
    *,
    host_code: bool,
    hint: str,
    kernels: KernelCache | None = None,
) -> LoadedEngine:
    """Deserialises a plan.

    Args:
        trt: The binding.
        content: The plan's bytes: checked, for a damaged plan can end the process.
        path: Where they came from, for messages.
        host_code: Whether the plan may carry code for the processor, as version-compatible ones do.
        hint: How to get an engine that loads.
        kernels: Where compiled kernels are kept, for a release that compiles them at run time.

    Raises:
        EngineError: TensorRT refuses it.
        RuntimeFailureError: A tensor that cannot be served.
    """
    log = log_of(trt)
    mark = log.mark()
    with hold_interrupts():
        runtime = trt.module.Runtime(log.logger)
        if host_code and hasattr(runtime, "engine_host_code_allowed"):
            runtime.engine_host_code_allowed = True
        handle = runtime.deserialize_cuda_engine(content)
    if handle is None:
        raise EngineError(f"{trt.name} refuses {path}", got=log.since(mark), hint=hint)
    return LoadedEngine(
        trt=trt,
        handle=handle,
        tensors=_tensors_of(trt, handle),
        profiles=_profiles_of(trt, handle),
        log=log,
        kernels=kernels,
        runtime=runtime,
    )


def _tensors_of(trt: TensorRt, engine: Any) -> tuple[Tensor, ...]:
    """An engine's inputs and outputs, inputs first.

    Raises:
        RuntimeFailureError: An element type that NumPy does not have, or an axis other than the batch that varies.
    """
    found = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = engine.get_tensor_dtype(name).name
        shape = tuple(engine.get_tensor_shape(name))
        if kind not in _DTYPES or -1 in shape[1:]:
            raise RuntimeFailureError(
                f"the engine's tensor {name} cannot be served", got=f"{kind} {list(shape)}", expected=", ".join(_DTYPES)
            )
        is_input = engine.get_tensor_mode(name) == trt.module.TensorIOMode.INPUT
        found.append(Tensor(name=name, dtype=_DTYPES[kind], shape=shape[1:], is_input=is_input))
    return tuple(sorted(found, key=lambda tensor: not tensor.is_input))


def _profiles_of(trt: TensorRt, engine: Any) -> tuple[Profile, ...]:
    """The batch sizes that an engine accepts, by profile."""
    name = next(tensor.name for tensor in _tensors_of(trt, engine) if tensor.is_input)
    shapes = [engine.get_tensor_profile_shape(name, index) for index in range(engine.num_optimization_profiles)]
    return tuple(Profile(min=low[0], opt=tuned[0], max=high[0]) for low, tuned, high in shapes)
