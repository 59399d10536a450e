"""One worker's share of an engine: execution contexts, a stream, buffers and CUDA graphs.

All memory is taken when a session is made, for the largest batch of its profile, so that inference allocates nothing.
The first batch of a size runs kernel by kernel; so does the second, which is recorded then, and from the third on that
size is one launch: small batches spend most of their time on launching kernels. What cannot be recorded runs kernel by
kernel for good. A recorded graph needs its context left as it was, so that each
has one of its own; all contexts of a session share one scratch memory, because they run one after the other. Where a
release gives a profile to one context only (8.5), a session keeps the graph of the batch size it ran last, and records
a size when it comes twice in a row.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitrify.engines.arrays import DeviceArray
from vitrify.engines.config import Profile
from vitrify.engines.device import Cuda
from vitrify.engines.releases import TensorRt
from vitrify.engines.tensors import Tensor
from vitrify.errors import DeviceError, RuntimeFailureError

_GRAPHS = 32
"""Graphs that a session keeps, those used last: more batch sizes or addresses than a server has in use."""

_SEEN = 1 << 12
"""Batches that a session remembers having run once: a caller whose addresses never repeat must not fill the memory."""

_Key: TypeAlias = tuple[bool, tuple[int, ...]]
"""Whether the copies from and to the host are part of it, the batch, and the addresses of inputs and outputs."""


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    """A graph, and the context that it was recorded from, which nothing may change."""

    context: Any
    graph: int


class Session:
    """Runs batches of one profile, one after the other. Not for several threads at once.

    Args:
        cuda: The GPU.
        trt: The binding.
        engine: A deserialised engine.
        tensors: What `tensors_of` gave.
        index: Which profile.
        profile: Its batch sizes.
        graphs: Whether repeated batch sizes run as CUDA graphs.

    Raises:
        DeviceError: Not enough GPU memory.
    """

    def __init__(
        self,
        cuda: Cuda,
        trt: TensorRt,
        engine: Any,
        tensors: tuple[Tensor, ...],
        *,
        index: int,
        profile: Profile,
        graphs: bool,
    ) -> None:
        self.profile = profile
        self.stream = 0
        self._cuda, self._trt, self._engine, self._index = cuda, trt, engine, index
        self._inputs = tuple(tensor for tensor in tensors if tensor.is_input)
        self._outputs = tuple(tensor for tensor in tensors if not tensor.is_input)
        self._use_graphs = graphs and trt.release.cuda_graphs
        self._seen: dict[_Key, bool] = {}  # what ran, last used last: whether it can be recorded, as far as is known
        self._previous: _Key | None = None
        self._recorded: dict[_Key, _Recorded] = {}
        self._event = 0
        self._memory: list[int] = []
        self._device: dict[str, int] = {}
        self._pinned: dict[str, int] = {}
        self._host: dict[str, npt.NDArray[Any]] = {}
        try:
            self.stream, self._event = cuda.create_stream(), cuda.create_event()
            self._scratch_bytes = scratch_bytes(engine)
            self._scratch = self._allocate(self._scratch_bytes)
            for tensor in tensors:
                size = tensor.size(profile.max)
                self._device[tensor.name] = self._allocate(size)
                self._pinned[tensor.name] = cuda.allocate_pinned(size)
                self._host[tensor.name] = _host_array(self._pinned[tensor.name], tensor, profile.max)
            self._context = self._new_context()
        except BaseException:
            self.close()
            raise

    def _allocate(self, size: int) -> int:
        address = self._cuda.allocate(max(size, 1))
        self._memory.append(address)
        return address

    def _new_context(self) -> Any:
        context = create_context(self._trt, self._engine, self._scratch, self._scratch_bytes)
        if not context.set_optimization_profile_async(self._index, self.stream):
            raise RuntimeFailureError(f"TensorRT refuses its profile {self._index}")
        self._cuda.synchronize(self.stream)
        return context

    def close(self) -> None:
        """Gives everything back. Closing twice does nothing."""
        if self.stream:
            self._cuda.synchronize(self.stream)
        self._forget_graphs()
        self._context = self._engine = None
        self._host.clear()
        for address in self._memory:
            self._cuda.free(address)
        for address in self._pinned.values():
            self._cuda.free_pinned(address)
        if self._event:
            self._cuda.destroy_event(self._event)
        if self.stream:
            self._cuda.destroy_stream(self.stream)
        self._memory, self._pinned, self._event, self.stream = [], {}, 0, 0

    def run(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Host arrays in, new host arrays out.

        Args:
            batch: Contiguous arrays of the engine's dtypes and shapes, one an input.
        """
        count = len(batch[self._inputs[0].name])
        for tensor in self._inputs:
            np.copyto(self._host[tensor.name][:count], batch[tensor.name])
        self._enqueue((count, *self._device.values()), copies=True)
        self._cuda.synchronize(self.stream)
        return {tensor.name: self._host[tensor.name][:count].copy() for tensor in self._outputs}

    def run_on_device(
        self, batch: Mapping[str, DeviceArray], *, stream: int = 0, outputs: Mapping[str, DeviceArray] | None = None
    ) -> dict[str, DeviceArray]:
        """Device arrays in and out, without a copy and without waiting.

        Args:
            batch: Arrays of the engine's dtypes and shapes, one an input; they have to live until the work is done.
            stream: The caller's stream: the work begins after what it has been given, and it waits for the work.
            outputs: Arrays to write to; without them, this session's own, which its next run overwrites.
        """
        count = batch[self._inputs[0].name].shape[0]
        given = outputs or {}
        addresses = [batch[tensor.name].address for tensor in self._inputs]
        addresses += [
            given[tensor.name].address if tensor.name in given else self._device[tensor.name]
            for tensor in self._outputs
        ]
        self._cuda.wait_for(self.stream, stream, self._event)
        self._enqueue((count, *addresses), copies=False)
        self._cuda.wait_for(stream, self.stream, self._event)
        return {
            tensor.name: given.get(tensor.name)
            or DeviceArray(address=address, shape=(count, *tensor.shape), dtype=tensor.dtype, owner=self)
            for tensor, address in zip(self._outputs, addresses[len(self._inputs) :], strict=True)
        }

    def _enqueue(self, addresses: tuple[int, ...], *, copies: bool) -> None:
        """Runs `(batch, input addresses…, output addresses…)`: by its graph, or kernel by kernel where it has none."""
        key = (copies, addresses)
        recorded = self._recorded.pop(key, None)
        if recorded is not None:
            self._recorded[key] = recorded  # last: the most recently used
            self._cuda.launch(recorded.graph, self.stream)
            return
        sharing = self._trt.release.profile_sharing
        if not sharing:
            self._forget_graphs()  # the only context is about to change
        # With one context a graph lasts until another size comes: sizes that take turns are not worth recording.
        ripe = self._use_graphs and self._remember(key) and (sharing or key == self._previous)
        self._previous = key
        context = self._context_to_record() if ripe else self._context
        self._bind(context or self._context, addresses)
        self._work(context or self._context, addresses[0], copies)
        if ripe:
            # TensorRT has set itself up for the shape by now. What was given to the stream is the answer.
            self._cuda.synchronize(self.stream)
            self._seen[key] = context is not None and self._record(key, context)

    def _remember(self, key: _Key) -> bool:
        """Whether it ran before, and can be recorded as far as is known."""
        before = self._seen.pop(key, None)
        self._seen[key] = before is not False
        if len(self._seen) > _SEEN:
            del self._seen[next(iter(self._seen))]
        return bool(before)

    def _context_to_record(self) -> Any:
        """A context that nothing else will change, or None where it cannot be had."""
        if not self._trt.release.profile_sharing:
            return self._context
        try:
            return self._new_context()
        except RuntimeFailureError:
            return None

    def _record(self, key: _Key, context: Any) -> bool:
        """Whether there is a graph now; a request whose work cannot be recorded has its answer all the same."""
        copies, addresses = key
        while len(self._recorded) >= _GRAPHS:
            self._destroy(self._recorded.pop(next(iter(self._recorded))))
        try:
            with self._cuda.capture(self.stream) as graphs:
                self._work(context, addresses[0], copies)
        except RuntimeFailureError:
            return False
        self._recorded[key] = _Recorded(context=context, graph=graphs[0])
        return True

    def _forget_graphs(self) -> None:
        while self._recorded:
            self._destroy(self._recorded.popitem()[1])

    def _destroy(self, recorded: _Recorded) -> None:
        self._cuda.synchronize(self.stream)  # it may still run
        self._cuda.destroy_graph(recorded.graph)

    def _bind(self, context: Any, addresses: tuple[int, ...]) -> None:
        count = addresses[0]
        for tensor in self._inputs:
            if not context.set_input_shape(tensor.name, (count, *tensor.shape)):
                raise RuntimeFailureError(f"TensorRT refuses a batch of {count}", expected=str(self.profile))
        for tensor, address in zip((*self._inputs, *self._outputs), addresses[1:], strict=True):
            if not context.set_tensor_address(tensor.name, address):
                raise RuntimeFailureError(f"TensorRT refuses an address for {tensor.name}", got=hex(address))

    def _work(self, context: Any, count: int, copies: bool) -> None:
        if copies:
            for tensor in self._inputs:
                self._cuda.copy(self._device[tensor.name], self._pinned[tensor.name], tensor.size(count), self.stream)
        if not context.execute_async_v3(self.stream):
            raise RuntimeFailureError(
                f"TensorRT failed on a batch of {count}", hint="vitrify verify says whether the engine still is right"
            )
        if copies:
            for tensor in self._outputs:
                self._cuda.copy(self._pinned[tensor.name], self._device[tensor.name], tensor.size(count), self.stream)


def scratch_bytes(engine: Any) -> int:
    """What one context needs beside inputs and outputs, for the largest batch."""
    return int(engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size)


def create_context(trt: TensorRt, engine: Any, scratch: int, size: int) -> Any:
    """An execution context on given scratch memory.

    Raises:
        DeviceError: The GPU's memory does not suffice for its weights' and kernels' state.
    """
    strategy = trt.flag("ExecutionContextAllocationStrategy", "USER_MANAGED")
    if strategy is not None:
        context = engine.create_execution_context(strategy)
    else:
        context = engine.create_execution_context_without_device_memory()
    if context is None:
        raise DeviceError(
            "the GPU has not enough memory for another execution context",
            hint="use fewer workers, or build with a smaller largest batch (--profile)",
        )
    if hasattr(context, "set_device_memory"):
        context.set_device_memory(scratch, size)
    else:
        context.device_memory = scratch
    return context


def _host_array(address: int, tensor: Tensor, batch: int) -> npt.NDArray[Any]:
    """Page-locked memory as an array, without owning it."""
    memory = (ctypes.c_uint8 * tensor.size(batch)).from_address(address)
    return np.ctypeslib.as_array(memory).view(tensor.dtype).reshape(batch, *tensor.shape)
