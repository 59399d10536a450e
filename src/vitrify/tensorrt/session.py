"""The workers of an open engine, each with execution contexts, a stream, buffers and CUDA graphs of its own.

All memory is taken when a session is made, for the largest batch of its profile, so that inference allocates nothing.
The first batch of a size runs kernel by kernel; so does the second, which is recorded then, and from the third on that
size is one launch: small batches spend most of their time on launching kernels. What cannot be recorded runs kernel by
kernel for good. A recorded graph needs its context left as it was, so that each
has one of its own; all contexts of a session share one scratch memory, because they run one after the other. Where a
release gives a profile to one context only (8.5), a session keeps the graph of the batch size it ran last, and records
a size when it comes twice in a row.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import Profile
from vitrify.cuda.arrays import DeviceArray, Tensor, host_bytes
from vitrify.cuda.driver import Cuda, DeviceMemory, give_back
from vitrify.errors import DeviceError, RuntimeFailureError
from vitrify.tensorrt.loading import LoadedEngine

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

    What it took of the GPU goes back when it is closed, or when nobody holds it any more; an array that lies in its
    memory keeps that memory.

    Args:
        cuda: The GPU, the calling thread's current one.
        engine: A deserialised engine.
        index: Which of its profiles.
        graphs: Whether repeated batch sizes run as CUDA graphs.

    Attributes:
        engine: As given.
        profile: Its batch sizes.
        stream: Where its work is ordered.

    Raises:
        DeviceError: Not enough GPU memory.
    """

    def __init__(self, cuda: Cuda, engine: LoadedEngine, *, index: int, graphs: bool) -> None:
        self.engine, self.profile = engine, engine.profiles[index]
        self._cuda, self._log, self._index = cuda, engine.log, index
        self._sharing = engine.trt.release.profile_sharing
        self._inputs = tuple(tensor for tensor in engine.tensors if tensor.is_input)
        self._outputs = tuple(tensor for tensor in engine.tensors if not tensor.is_input)
        self._use_graphs = graphs and engine.trt.release.cuda_graphs
        self._seen: dict[_Key, bool] = {}  # what ran, last used last: whether it can be recorded, as far as is known
        self._previous: _Key | None = None
        self._recorded: dict[_Key, _Recorded] = {}
        self._device: dict[str, DeviceMemory] = {}
        self._pinned: dict[str, int] = {}
        self._host: dict[str, npt.NDArray[Any]] = {}
        # What is put here last goes first, all of it, whatever fails. Nothing in it may hold the session itself.
        owned = contextlib.ExitStack()
        self._finalizer = weakref.finalize(self, owned.close)
        try:
            self.stream = cuda.create_stream()
            owned.callback(give_back, cuda.destroy_stream, self.stream)
            self._event = cuda.create_event()
            owned.callback(give_back, cuda.destroy_event, self._event)
            scratch = [DeviceMemory(cuda, engine.scratch_bytes)]
            self._scratch = scratch[0].address
            owned.callback(scratch.clear)
            owned.callback(self._device.clear)
            for tensor in engine.tensors:
                size = tensor.size(self.profile.max)
                self._device[tensor.name] = DeviceMemory(cuda, size)
                self._pinned[tensor.name] = address = cuda.allocate_pinned(max(size, 1))
                owned.callback(give_back, cuda.free_pinned, address)
                rows = host_bytes(address, tensor.size(self.profile.max)).view(tensor.dtype)
                self._host[tensor.name] = rows.reshape(self.profile.max, *tensor.shape)
            owned.callback(self._host.clear)
            self._context = self._new_context()
            owned.callback(_destroy_all, cuda, self._recorded)
            owned.callback(give_back, cuda.synchronize, self.stream)
        except BaseException:
            self.close()
            raise

    def _new_context(self) -> Any:
        context = self.engine.new_context(self._scratch, self.engine.scratch_bytes)
        mark = self._log.mark()
        if not context.set_optimization_profile_async(self._index, self.stream):
            raise RuntimeFailureError(f"TensorRT refuses its profile {self._index}", got=self._log.since(mark))
        self._cuda.synchronize(self.stream)
        return context

    @property
    def closed(self) -> bool:
        """Whether everything was given back."""
        return not self._finalizer.alive

    def close(self) -> None:
        """Gives everything back, as far as the GPU lets it. Closing twice does nothing."""
        self._finalizer()
        self._context = None

    def run(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Host arrays in, new host arrays out.

        Args:
            batch: Contiguous arrays of the engine's dtypes and shapes, one an input.
        """
        count = len(batch[self._inputs[0].name])
        for tensor in self._inputs:
            np.copyto(self._host[tensor.name][:count], batch[tensor.name])
        self._enqueue((count, *(memory.address for memory in self._device.values())), copies=True)
        self._cuda.synchronize(self.stream)
        return {tensor.name: self._host[tensor.name][:count].copy() for tensor in self._outputs}

    def run_on_device(
        self, batch: Mapping[str, DeviceArray], *, stream: int = 0, outputs: Mapping[str, DeviceArray] | None = None
    ) -> dict[str, DeviceArray]:
        """Device arrays in and out, without a copy and without waiting.

        Args:
            batch: Arrays of the engine's dtypes and shapes, one an input; they have to live until the work is done.
            stream: The caller's stream: the work begins after what it has been given, and it waits for the work.
            outputs: Arrays to write to; without them, this session's own, which its next run overwrites, of any size.
        """
        count = batch[self._inputs[0].name].shape[0]
        given = outputs or {}
        addresses = [batch[tensor.name].address for tensor in self._inputs]
        addresses += [
            given[tensor.name].address if tensor.name in given else self._device[tensor.name].address
            for tensor in self._outputs
        ]
        self._cuda.wait_for(self.stream, stream, self._event)
        self._enqueue((count, *addresses), copies=False)
        self._cuda.wait_for(stream, self.stream, self._event)
        return {
            tensor.name: given.get(tensor.name)
            or DeviceArray(
                address=address, shape=(count, *tensor.shape), dtype=tensor.dtype, owner=self._device[tensor.name]
            )
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
        if not self._sharing:
            self._forget_graphs()  # the only context is about to change
        # With one context a graph lasts until another size comes: sizes that take turns are not worth recording.
        ripe = self._use_graphs and self._remember(key) and (self._sharing or key == self._previous)
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
        if not self._sharing:
            return self._context
        try:
            return self._new_context()
        except RuntimeFailureError:
            return None

    def _record(self, key: _Key, context: Any) -> bool:
        """Whether there is a graph now; a request whose work cannot be recorded has its answer all the same."""
        copies, addresses = key
        while len(self._recorded) >= _GRAPHS:
            self._cuda.synchronize(self.stream)  # it may still run
            self._cuda.destroy_graph(self._recorded.pop(next(iter(self._recorded))).graph)
        try:
            with self._cuda.capture(self.stream) as graphs:
                self._work(context, addresses[0], copies)
        except RuntimeFailureError:
            return False
        self._recorded[key] = _Recorded(context=context, graph=graphs[0])
        return True

    def _forget_graphs(self) -> None:
        if self._recorded:
            self._cuda.synchronize(self.stream)  # they may still run
            _destroy_all(self._cuda, self._recorded)

    def _bind(self, context: Any, addresses: tuple[int, ...]) -> None:
        count, mark = addresses[0], self._log.mark()
        for tensor in self._inputs:
            if not context.set_input_shape(tensor.name, (count, *tensor.shape)):
                raise RuntimeFailureError(
                    f"TensorRT refuses a batch of {count}", got=self._log.since(mark), expected=str(self.profile)
                )
        for tensor, address in zip((*self._inputs, *self._outputs), addresses[1:], strict=True):
            if not context.set_tensor_address(tensor.name, address):
                raise RuntimeFailureError(
                    f"TensorRT refuses the address {address:#x} for {tensor.name}", got=self._log.since(mark)
                )

    def _work(self, context: Any, count: int, copies: bool) -> None:
        if copies:
            for tensor in self._inputs:
                self._copy(self._device[tensor.name].address, self._pinned[tensor.name], tensor.size(count))
        mark = self._log.mark()
        done = context.execute_async_v3(self.stream)
        self._log.raise_interrupt()
        if not done:
            raise RuntimeFailureError(
                f"TensorRT failed on a batch of {count}",
                got=self._log.since(mark),
                hint="vitrify verify says whether the engine still is right",
            )
        if copies:
            for tensor in self._outputs:
                self._copy(self._pinned[tensor.name], self._device[tensor.name].address, tensor.size(count))

    def _copy(self, target: int, source: int, size: int) -> None:
        self._cuda.copy(target, source, size, self.stream)


def _destroy_all(cuda: Cuda, recorded: dict[_Key, _Recorded]) -> None:
    while recorded:
        give_back(cuda.destroy_graph, recorded.popitem()[1].graph)


class SessionPool:
    """Workers for several threads.

    Where a release gives a profile to one context (8.5), the first worker of each profile shares an engine, and each
    further one has an engine of its own.

    Args:
        cuda: The GPU.
        load: Loads the engine; called once, and for each further worker that needs one of its own.
        graphs: Whether repeated batch sizes run as CUDA graphs.

    Attributes:
        tensors: The engine's inputs and outputs, inputs first.
        profiles: The batch sizes that it accepts.

    Raises:
        DeviceError: Not enough GPU memory for the engine and a first worker: that should not show at the first request.
        Others: What `load` raises.
    """

    def __init__(self, cuda: Cuda, load: Callable[[], LoadedEngine], *, graphs: bool) -> None:
        self._cuda, self._load, self._graphs = cuda, load, graphs
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._closed = False
        with cuda.current():
            engine = load()
            self.tensors: tuple[Tensor, ...] = engine.tensors
            self.profiles: tuple[Profile, ...] = engine.profiles
            self._sharing = engine.trt.release.profile_sharing
            self._shared: LoadedEngine | None = engine
            self._taken: set[int] = set()  # profiles of the shared engine that a worker has, where one only can
            self._idle: dict[int, list[Session]] = {index: [] for index in range(len(engine.profiles))}
            self._idle[0].append(self._make(0))

    @contextlib.contextmanager
    def lend(self, index: int) -> Iterator[Session]:
        """Lends a worker of a profile, with the GPU as the thread's current one.

        Raises:
            RuntimeFailureError: The pool is closed.
            DeviceError: Not enough GPU memory for another worker.
        """
        with self._cuda.current():
            with self._lock:
                self._require_open()
                session = self._idle[index].pop() if self._idle[index] else None
            session = session or self._make(index)
            try:
                yield session
            except BaseException:
                self._drop(session)  # what state it is in, nobody knows
                raise
            with self._lock:
                kept = not self._closed
                if kept:
                    self._idle[index].append(session)
            if not kept:
                session.close()

    def close(self) -> None:
        """Ends every worker; those that are lent end when they come back. Closing twice does nothing."""
        with self._lock:
            self._closed, self._shared = True, None
            idle = [session for sessions in self._idle.values() for session in sessions]
            for sessions in self._idle.values():
                sessions.clear()
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(DeviceError):  # a GPU that failed answers this too with its failure
                stack.enter_context(self._cuda.current())
            for session in idle:
                session.close()

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeFailureError("the engine was closed", hint="open it again")

    def _make(self, index: int) -> Session:
        with self._making:  # one at a time: loading takes the memory of a whole plan
            with self._lock:
                self._require_open()
                engine = self._shared
                shared = self._sharing or index not in self._taken
                if shared:
                    self._taken.add(index)
            try:
                if engine is None or not shared:
                    engine = self._load()
                    with self._lock:
                        if shared and not self._closed:
                            self._shared = engine
                return Session(self._cuda, engine, index=index, graphs=self._graphs)
            except BaseException:
                if shared:
                    with self._lock:
                        self._taken.discard(index)
                raise

    def _drop(self, session: Session) -> None:
        """Ends a worker that failed. Its engine's profile may stay taken as long as a traceback holds the context."""
        with self._lock:
            if not self._sharing and session.engine is self._shared:
                self._shared = None
                self._taken.clear()
        session.close()
