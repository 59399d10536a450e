"""A plan's bytes to an engine, and an engine to execution contexts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from vitrify.engines.config import Profile
from vitrify.engines.kernels import KernelCache
from vitrify.engines.releases import TensorRt
from vitrify.engines.tensors import Tensor, profiles_of, tensors_of
from vitrify.engines.watching import TensorRtLog, hold_interrupts, log_of
from vitrify.errors import DeviceError, EngineError


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
        tensors=tensors_of(trt, handle),
        profiles=profiles_of(trt, handle),
        log=log,
        kernels=kernels,
        runtime=runtime,
    )
