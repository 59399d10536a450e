"""One worker's share of an engine: an execution context, a stream, its buffers and its CUDA graphs.

All memory is taken when a session is made, for the largest batch of its profile, so that inference allocates nothing.
The first batch of a size runs kernel by kernel, which lets TensorRT set itself up for that shape; from the second on it
is one launch of a recorded graph, which is what small batches spend their time on otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrify.engines.arrays import DeviceArray
from vitrify.engines.config import Profile
from vitrify.engines.device import Cuda
from vitrify.engines.releases import TensorRt
from vitrify.errors import DeviceError, RuntimeFailureError

_ALIGNMENT = 256
_GRAPHS = 32
"""Graphs that a session keeps: more batch sizes or addresses than a server has in use."""

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "INT64": "int64",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output of an engine.

    Attributes:
        name: Tensor name.
        dtype: NumPy's name of the element type.
        shape: Without the batch axis.
        is_input: Or an output.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_input: bool

    def size(self, batch: int) -> int:
        """Bytes of a batch."""
        return batch * math.prod(self.shape) * np.dtype(self.dtype).itemsize


def tensors_of(trt: TensorRt, engine: Any) -> tuple[Tensor, ...]:
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


def profiles_of(trt: TensorRt, engine: Any) -> tuple[Profile, ...]:
    """The batch sizes that an engine accepts, by profile."""
    name = next(tensor.name for tensor in tensors_of(trt, engine) if tensor.is_input)
    shapes = [engine.get_tensor_profile_shape(name, index) for index in range(engine.num_optimization_profiles)]
    return tuple(Profile(min=low[0], opt=tuned[0], max=high[0]) for low, tuned, high in shapes)


class Session:
    """Runs batches of one profile, one after the other. Not for several threads at once.

    Args:
        cuda: The GPU.
        engine: A deserialised engine.
        tensors: What `tensors_of` gave.
        index: Which profile.
        profile: Its batch sizes.
        graphs: Whether repeated batch sizes run as CUDA graphs.

    Raises:
        DeviceError: Not enough GPU memory.
    """

    def __init__(
        self, cuda: Cuda, engine: Any, tensors: tuple[Tensor, ...], *, index: int, profile: Profile, graphs: bool
    ) -> None:
        self.profile = profile
        self._cuda = cuda
        self._tensors = tensors
        self._inputs = tuple(tensor for tensor in tensors if tensor.is_input)
        self._outputs = tuple(tensor for tensor in tensors if not tensor.is_input)
        self._use_graphs = graphs
        self._graphs: dict[tuple[int, ...], int] = {}
        self._seen: set[tuple[int, ...]] = set()
        self._addresses: dict[str, int] = {}
        self._batch = 0
        self._device: dict[str, int] = {}
        self._pinned: dict[str, int] = {}
        self._host: dict[str, npt.NDArray[Any]] = {}
        self.stream = cuda.create_stream()
        try:
            self._context = engine.create_execution_context()
            if self._context is None:
                raise DeviceError(
                    "the GPU has not enough memory for another worker",
                    hint="use fewer workers, or build with a smaller largest batch (--profile)",
                )
            if not self._context.set_optimization_profile_async(index, self.stream):
                raise RuntimeFailureError(f"TensorRT refuses its profile {index}")
            for tensor in tensors:
                size = -(-tensor.size(profile.max) // _ALIGNMENT) * _ALIGNMENT
                self._device[tensor.name] = cuda.allocate(size)
                self._pinned[tensor.name] = cuda.allocate_pinned(size)
                self._host[tensor.name] = _host_array(self._pinned[tensor.name], tensor, profile.max)
            cuda.synchronize(self.stream)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives everything back. Closing twice does nothing."""
        self._cuda.synchronize(self.stream) if self.stream else None
        for graph in self._graphs.values():
            self._cuda.destroy_graph(graph)
        self._host.clear()
        for address in self._device.values():
            self._cuda.free(address)
        for address in self._pinned.values():
            self._cuda.free_pinned(address)
        if self.stream:
            self._cuda.destroy_stream(self.stream)
        self._graphs, self._device, self._pinned, self.stream = {}, {}, {}, 0
        self._context = None

    def run(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Host arrays in, new host arrays out.

        Args:
            batch: Contiguous arrays of the engine's dtypes and shapes, one an input.
        """
        count = len(batch[self._inputs[0].name])
        for tensor in self._inputs:
            np.copyto(self._host[tensor.name][:count], batch[tensor.name])
        self._bind(count, self._device)
        self._enqueue((count,), self._with_copies)
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
        addresses = {
            tensor.name: (batch if tensor.is_input else given)[tensor.name].address
            if tensor.is_input or tensor.name in given
            else self._device[tensor.name]
            for tensor in self._tensors
        }
        self._cuda.wait_for(self.stream, stream)
        self._bind(count, addresses)
        self._enqueue((count, *addresses.values()), self._execute)
        self._cuda.wait_for(stream, self.stream)
        return {
            tensor.name: DeviceArray(
                address=addresses[tensor.name], shape=(count, *tensor.shape), dtype=tensor.dtype, owner=self
            )
            for tensor in self._outputs
        }

    def _bind(self, count: int, addresses: Mapping[str, int]) -> None:
        """Tells the context shapes and addresses, where they are not what they were."""
        if count != self._batch:
            for tensor in self._inputs:
                if not self._context.set_input_shape(tensor.name, (count, *tensor.shape)):
                    raise RuntimeFailureError(f"TensorRT refuses a batch of {count}", expected=f"{self.profile}")
            self._batch = count
        for name, address in addresses.items():
            if self._addresses.get(name) != address:
                if not self._context.set_tensor_address(name, address):
                    raise RuntimeFailureError(f"TensorRT refuses an address for {name}", got=hex(address))
                self._addresses[name] = address

    def _enqueue(self, key: tuple[int, ...], work: Any) -> None:
        """Launches the graph of this key, recording it on the second time; the first time runs without one."""
        if key in self._graphs:
            self._cuda.launch(self._graphs[key], self.stream)
            return
        if not self._use_graphs or key not in self._seen:
            self._seen.add(key)
            work(key[0])
            return
        if len(self._graphs) >= _GRAPHS:
            self._cuda.synchronize(self.stream)
            self._cuda.destroy_graph(self._graphs.pop(next(iter(self._graphs))))
        with self._cuda.capture(self.stream) as recorded:
            work(key[0])
        self._graphs[key] = recorded[0]
        self._cuda.launch(recorded[0], self.stream)

    def _with_copies(self, count: int) -> None:
        for tensor in self._inputs:
            self._cuda.copy(self._device[tensor.name], self._pinned[tensor.name], tensor.size(count), self.stream)
        self._execute(count)
        for tensor in self._outputs:
            self._cuda.copy(self._pinned[tensor.name], self._device[tensor.name], tensor.size(count), self.stream)

    def _execute(self, count: int) -> None:
        if not self._context.execute_async_v3(self.stream):
            raise RuntimeFailureError(
                f"TensorRT failed on a batch of {count}", hint="vitrify verify says whether the engine still is right"
            )


def _host_array(address: int, tensor: Tensor, batch: int) -> npt.NDArray[Any]:
    """Page-locked memory as an array, without owning it."""
    import ctypes

    memory = (ctypes.c_uint8 * tensor.size(batch)).from_address(address)
    return np.frombuffer(memory, dtype=tensor.dtype).reshape(batch, *tensor.shape)
