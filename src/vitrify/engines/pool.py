"""The workers of an open engine: lent to one call at a time, made where all are busy."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from vitrify.engines.config import Profile
from vitrify.engines.gpu import Cuda
from vitrify.engines.loading import LoadedEngine
from vitrify.engines.session import Session
from vitrify.engines.tensors import Tensor
from vitrify.errors import DeviceError, RuntimeFailureError


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
