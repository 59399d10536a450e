"""What TensorRT tells while it works: its log, its progress, and the wish to stop it."""

from __future__ import annotations

import collections
import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from vitrify.progress import Progress
from vitrify.tensorrt.releases import TensorRt

LAYERS_HEADING = "Layers:"
"""How the builder's own log begins its list of the finished engine's layers, in the inspector's text form."""


_KEPT = 256
"""Lines of severity error that are kept, the newest: a server that fails for days must not fill the memory."""


class TensorRtLog:
    """Keeps what matters of TensorRT's log.

    TensorRT keeps the first logger that it was given for all that it does in a process, and does not own it. So a
    process has one for each binding (`log_of`), which is never freed.

    Attributes:
        logger: The `ILogger` that writes here.
        layers: The builder's own list of the finished engine's layers, where it printed one.
    """

    def __init__(self, trt: TensorRt) -> None:
        self._errors: collections.deque[str] = collections.deque(maxlen=_KEPT)
        self._count = 0
        self._interrupted = False
        self.layers = ""
        self.logger = self._make_logger(trt)

    def mark(self) -> int:
        """Where the log stands, for `since`."""
        return self._count

    def since(self, mark: int) -> str:
        """The errors that came after a mark, one a line and none twice; threads that ran meanwhile included."""
        new = list(self._errors)[-(self._count - mark) :] if self._count > mark else []
        return "\n       ".join(dict.fromkeys(new)) or "no reason given"

    def raise_interrupt(self) -> None:
        """Raises the KeyboardInterrupt that came while TensorRT was writing here, once the call has returned."""
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def _keep(self, message: str, *, error: bool) -> None:
        if error:
            self._errors.append(message)
            self._count += 1
        elif message.startswith(LAYERS_HEADING):
            self.layers = message

    def _make_logger(self, trt: TensorRt) -> Any:
        base: Any = trt.module.ILogger
        severe = (base.Severity.ERROR, base.Severity.INTERNAL_ERROR)
        log = self

        class Logger(base):  # type: ignore[misc]
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                try:
                    log._keep(message, error=severity in severe)
                except BaseException:  # it is called from C++ that lets no exception pass: the process would end
                    log._interrupted = True

        return Logger()


_logs: dict[int, tuple[Any, TensorRtLog]] = {}


def log_of(trt: TensorRt) -> TensorRtLog:
    """The one log of a binding in this process."""
    found = _logs.get(id(trt.module))
    if found is None:
        # The module too: its id is its own as long as it lives.
        found = _logs.setdefault(id(trt.module), (trt.module, TensorRtLog(trt)))
    return found[1]


@contextlib.contextmanager
def hold_interrupts() -> Iterator[None]:
    """Keeps Ctrl-C until the block is done, for calls of TensorRT that write to its log.

    A KeyboardInterrupt inside one of its callbacks would end the process, as in `Stop.on_interrupt`.
    """
    before = signal.getsignal(signal.SIGINT)
    # Signals go to the main thread; a handler that is not Python's raises nothing there, and could not be put back.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    held: list[Any] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            before(signal.SIGINT, held[-1])


class Stop:
    """A wish to stop, from Ctrl-C. `asked` is looked at where stopping is safe."""

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def on_interrupt(self, progress: Progress, trt: TensorRt) -> Iterator[None]:
        """Turns Ctrl-C into `asked` while TensorRT runs, and into KeyboardInterrupt after it.

        An exception inside one of TensorRT's callbacks would end the process: they run below C++ code that throws none.
        Nothing is written while this is in force, so that a second Ctrl-C may end the process at once.
        """
        if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
            yield  # signals go to the main thread, which is not this one; a handler of C's could not be put back
            return

        def interrupt(number: int, frame: Any) -> None:
            self.asked = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            how = (
                "stopping" if trt.release.progress_monitor else f"{trt.release.name} cannot be stopped while it builds"
            )
            with contextlib.suppress(Exception):  # a terminal that is gone: this may be below a callback too
                progress.say(f"{how}; press Ctrl-C again to leave at once")

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        except Exception:
            if self.asked:  # a build that was stopped fails
                raise KeyboardInterrupt from None
            raise
        finally:
            signal.signal(signal.SIGINT, before)
        if self.asked:
            raise KeyboardInterrupt


def make_monitor(trt: TensorRt, progress: Progress, stop: Stop) -> Any:
    """An `IProgressMonitor` that draws each phase as a bar and ends the build once `stop` was asked for.

    A bar that cannot be drawn, on a terminal that is gone, is no reason to lose the build, and an exception would end
    the process.
    """
    base: Any = trt.module.IProgressMonitor
    lock = threading.Lock()  # phases may be reported by several threads
    bars: dict[str, Iterator[int]] = {}

    class Monitor(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with lock, contextlib.suppress(Exception):
                bars[phase_name] = progress.track(range(num_steps + 1), label=phase_name)
                next(bars[phase_name], None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with lock, contextlib.suppress(Exception):
                next(bars.get(phase_name, iter(())), None)
            return not stop.asked

        def phase_finish(self, phase_name: str) -> None:
            with lock, contextlib.suppress(Exception):
                close = getattr(bars.pop(phase_name, None), "close", None)
                if close is not None:
                    close()

    return Monitor()
