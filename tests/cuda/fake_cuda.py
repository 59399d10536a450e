"""A stand-in for a GPU: host memory, and queues for streams.

It is strict where the real one is: work runs only when a stream is waited for, freed memory may not be used, a call
counts only where the device is the thread's current one, and what was not given back is counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from vitrify.artifacts import Gpu
from vitrify.cuda.arrays import CPU, CUDA, CUDA_MANAGED
from vitrify.cuda.driver import Cuda
from vitrify.errors import DeviceError

H100 = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", memory_bytes=80 << 30, driver="13.0")
L4 = Gpu(name="NVIDIA L4", compute_capability="8.9", memory_bytes=24 << 30, driver="13.0")
_DEVICE_STREAM = 0


class FakeCuda(Cuda):
    """`Cuda` on host memory, with queues for streams."""

    memory_kinds: ClassVar[tuple[int, ...]] = (CPU, CUDA, CUDA_MANAGED)  # the host stands in for the device

    def __init__(self, gpu: Gpu = H100, *, memory_bytes: int = 1 << 30) -> None:
        self._gpu = gpu
        self.free_bytes = self.total_bytes = memory_bytes
        self.memory: dict[int, Any] = {}
        self.queues: dict[int, list[Callable[[], None]]] = {_DEVICE_STREAM: []}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.events: set[int] = set()
        self._running = threading.RLock()  # the GPU does one thing at a time
        self._recording = threading.local()  # a thread records its own calls alone
        self.allocations = self.launches = 0
        self.refuse_capture = ""  # what the driver answers to a recording
        self.broken = ""  # what every call answers from now on, as after an illegal address
        self._thread = threading.local()
        self._done: dict[int, int] = {}  # how many steps of a stream were run
        self._handle = 100

    def gpu(self) -> Gpu:
        return self._gpu

    def bytes_in_use(self) -> int:
        self._require_working()
        return self.total_bytes - self.free_bytes

    @property
    def device(self) -> int:
        """The calling thread's current device, which a caller may set to another one."""
        return getattr(self._thread, "device", 0)

    @device.setter
    def device(self, index: int) -> None:
        self._thread.device = index

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self._require_working()
        before, self.device = self.device, 0
        try:
            yield
        finally:
            self.device = before

    def _require_working(self) -> None:
        if self.broken:
            raise DeviceError("a call failed", got=self.broken)

    @property
    def recording(self) -> list[Callable[[], None]] | None:
        found: list[Callable[[], None]] | None = getattr(self._recording, "work", None)
        return found

    @property
    def recorded_contexts(self) -> list[Any]:
        contexts: list[Any] = self._recording.contexts
        return contexts

    def _next(self) -> int:
        self._handle += 1
        return self._handle

    def allocate(self, size: int) -> int:
        assert self.device == 0, "memory of another GPU"
        self._require_working()
        if size > self.free_bytes:
            raise DeviceError("the GPU is out of memory", got=f"{self.free_bytes} bytes free", hint="--profile")
        self.free_bytes -= size
        self.allocations += 1
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        self.free_bytes += len(self.memory.pop(address))
        self._require_working()

    allocate_pinned = allocate
    free_pinned = free

    def create_stream(self) -> int:
        assert self.device == 0, "a stream of another GPU"
        self._require_working()
        stream = self._next()
        self.queues[stream] = []
        return stream

    def destroy_stream(self, stream: int) -> None:
        left = self.queues.pop(stream)
        self._require_working()
        assert not left

    def create_event(self) -> int:
        self.events.add(self._next())
        return self._handle

    def destroy_event(self, event: int) -> None:
        self.events.remove(event)
        self._require_working()

    def give(self, stream: int, work: Callable[[], None]) -> None:
        assert self.device == 0, "work for another GPU"
        self._require_working()
        recording = self.recording
        (self.queues[stream] if recording is None else recording).append(work)

    def synchronize(self, stream: int) -> None:
        assert self.recording is None, "a stream cannot be waited for while it is recorded"
        self._require_working()
        with self._running:
            self._run(stream, len(self.queues[stream]))

    def _run(self, stream: int, steps: int) -> None:
        with self._running:
            for _ in range(steps):
                self._done[stream] = self._done.get(stream, 0) + 1
                self.queues[stream].pop(0)()

    def wait_for(self, stream: int, other: int, event: int) -> None:
        assert event in self.events
        # What the other stream has been given so far, and nothing that comes later.
        with self._running:
            until = self._done.get(other, 0) + len(self.queues[other])
        self.give(
            stream,
            lambda: self._run(other, max(until - self._done.get(other, 0), 0)) if other in self.queues else None,
        )

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        assert {target, source} <= self.memory.keys()
        self.give(stream, lambda: _move(target, source, size))

    @contextlib.contextmanager
    def capture(self, stream: int) -> Iterator[list[int]]:
        recorded: list[int] = []
        work = self._recording.work = []
        self._recording.contexts = []
        try:
            yield recorded
            if self.refuse_capture:
                raise DeviceError("cudaGraphInstantiate failed", got=self.refuse_capture)
            graph = self._next()
            self.graphs[graph] = work
            recorded.append(graph)
            for context in self.recorded_contexts:
                context.recorded.add(graph)
        finally:
            self._recording.work = None

    def launch(self, graph: int, stream: int) -> None:
        self._require_working()
        self.launches += 1
        for work in self.graphs[graph]:
            self.give(stream, work)

    def destroy_graph(self, graph: int) -> None:
        del self.graphs[graph]
        self._require_working()


def _move(target: int, source: int, size: int) -> None:
    ctypes.memmove(target, source, size)
