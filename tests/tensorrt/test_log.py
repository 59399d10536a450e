"""What TensorRT says reaches the error, and Ctrl-C in the middle of it ends nothing but the call."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.tensorrt.conftest import Machine
from tests.tensorrt.running import assert_right, images
from tests.tensorrt.test_rtx import pytestmark as needs_rtx
from vitrify.artifacts import manifest_path
from vitrify.errors import DeviceError, EngineError, RuntimeFailureError
from vitrify.runtimes.tensorrt import TensorRtOptions, TensorRtRuntime
from vitrify.tensorrt.watching import hold_interrupts, log_of


def test_what_tensorrt_says_is_in_the_error_and_what_it_said_before_is_not(machine: Machine, engine: Path) -> None:
    with TensorRtRuntime(engine) as runtime:
        for says in ("enqueue failed: first", "enqueue failed: second"):
            machine.trt.refuse_batch = says
            with pytest.raises(RuntimeFailureError, match="TensorRT failed on a batch of 1") as caught:
                runtime.infer({"image": images(1)})
            assert caught.value.got == says
        machine.trt.refuse_batch = ""
        with pytest.raises(RuntimeFailureError, match="refuses a batch") as caught, runtime.session(1) as session:
            session.run({"image": images(17)[:0]})
        assert caught.value.got == "no batch of 0 in the profile"


def test_a_context_that_is_refused_says_why(machine: Machine, new_engine: Path) -> None:
    machine.trt.most_contexts = machine.trt.contexts
    with pytest.raises(DeviceError, match=r"execution context[\s\S]*got: no memory for a context[\s\S]*workers"):
        TensorRtRuntime(new_engine).open()


def test_a_plan_that_is_refused_says_why(machine: Machine, new_engine: Path) -> None:
    manifest_path(new_engine).unlink()
    for content in (b"one", b"two"):
        new_engine.write_bytes(content)
        with pytest.raises(EngineError, match="refuses") as caught:
            TensorRtRuntime(new_engine, TensorRtOptions(trusted=True)).open()
        assert caught.value.got == "Serialization assertion failed: magic tag does not match"


def test_the_log_of_days_does_not_fill_the_memory(machine: Machine) -> None:
    log = log_of(machine.trt.binding)
    assert log is log_of(machine.trt.binding)
    mark = log.mark()
    assert log.since(mark) == "no reason given"
    for number in range(1000):
        machine.trt.say(log.logger, "ERROR", f"line {number}")
    assert log.since(mark).splitlines()[-1].strip() == "line 999"
    assert len(log.since(mark).splitlines()) == 256
    assert log.since(log.mark() - 1) == "line 999"


def interrupt() -> None:
    """What Python does on Ctrl-C. No signal is sent: pytest's own signal stack is too small once AMX was used."""
    handler = signal.getsignal(signal.SIGINT)
    assert callable(handler)
    handler(signal.SIGINT, None)


def test_ctrl_c_while_an_engine_is_loaded(machine: Machine, engine: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    machine.trt.while_writing = interrupt
    with pytest.raises(KeyboardInterrupt):
        TensorRtRuntime(engine).open()
    assert signal.getsignal(signal.SIGINT) is before
    machine.trt.while_writing = lambda: None
    with TensorRtRuntime(engine) as runtime:
        runtime.infer({"image": images(1)})
    assert not machine.cuda.memory


def test_ctrl_c_while_a_batch_runs(machine: Machine, engine: Path) -> None:
    with TensorRtRuntime(engine) as runtime:
        machine.trt.while_writing = interrupt
        with pytest.raises(KeyboardInterrupt):
            runtime.infer({"image": images(1)})
        machine.trt.while_writing = lambda: None
        batch = images(2)
        assert_right(runtime.infer({"image": batch})["logits"], batch)
    assert not machine.cuda.memory


def test_ctrl_c_is_kept_until_the_block_is_done() -> None:
    done = []

    def work() -> None:
        with hold_interrupts():
            with hold_interrupts():
                interrupt()
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]


@pytest.mark.parametrize("handler", ["SIG_IGN", "SIG_DFL"])
def test_a_handler_that_raises_nothing_is_left_alone(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGINT, getattr(signal, handler))  # type: ignore[call-overload]
    try:
        with hold_interrupts():
            assert signal.getsignal(signal.SIGINT) == getattr(signal, handler)  # type: ignore[call-overload]
    finally:
        signal.signal(signal.SIGINT, before)


@needs_rtx
def test_ctrl_c_inside_a_real_callback() -> None:
    # In a process of its own: an exception that leaves the callback would end it.
    program = """
        import signal
        from vitrify.tensorrt import load_tensorrt
        from vitrify.tensorrt.watching import TensorRtLog, log_of

        trt = load_tensorrt("rtx")
        log, keep = log_of(trt), TensorRtLog._keep

        def interrupted(self, message, *, error):
            keep(self, message, error=error)
            signal.raise_signal(signal.SIGINT)

        TensorRtLog._keep = interrupted
        network = trt.module.Builder(log.logger).create_network(0)
        trt.module.OnnxParser(network, log.logger).parse(b"no graph")
        try:
            log.raise_interrupt()
        except KeyboardInterrupt:
            print("interrupted after", log.since(0)[:40])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("interrupted after ")
