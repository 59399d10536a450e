"""What a build tells while it runs: its log, its progress, and the wish to stop it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from vitrify.engines.releases import TensorRt
from vitrify.progress import Progress

LAYERS_HEADING = "Layers:"
"""How the builder's own log begins its list of the finished engine's layers, in the inspector's text form."""


class BuildLog:
    """Keeps what matters of TensorRT's log.

    Attributes:
        errors: Lines of severity error, in order.
        layers: The builder's own list of the finished engine's layers, where it printed one.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.layers = ""

    def logger(self, trt: TensorRt) -> Any:
        """An `ILogger` that writes here. It has to outlive every object made with it."""
        base: Any = trt.module.ILogger
        severe = (base.Severity.ERROR, base.Severity.INTERNAL_ERROR)
        log = self

        class Logger(base):  # type: ignore[misc]
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in severe:
                    log.errors.append(message)
                elif message.startswith(LAYERS_HEADING):
                    log.layers = message

        return Logger()


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
        if threading.current_thread() is not threading.main_thread():
            yield  # signals go to the main thread, which is not this one
            return

        def interrupt(number: int, frame: Any) -> None:
            self.asked = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            how = (
                "stopping" if trt.release.progress_monitor else f"{trt.release.name} cannot be stopped while it builds"
            )
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
    """An `IProgressMonitor` that draws each phase as a bar and ends the build once `stop` was asked for."""
    base: Any = trt.module.IProgressMonitor
    lock = threading.Lock()  # phases may be reported by several threads
    bars: dict[str, Iterator[int]] = {}

    class Monitor(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with lock:
                bars[phase_name] = progress.track(range(num_steps + 1), label=phase_name)
                next(bars[phase_name], None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with lock:
                next(bars.get(phase_name, iter(())), None)
            return not stop.asked

        def phase_finish(self, phase_name: str) -> None:
            with lock:
                close = getattr(bars.pop(phase_name, None), "close", None)
                if close is not None:
                    close()

    return Monitor()
