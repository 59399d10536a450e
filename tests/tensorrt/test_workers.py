"""Workers over a stand-in for TensorRT and the GPU: lent, given back, and ended whatever fails."""

from __future__ import annotations

import concurrent.futures
import ctypes
import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cuda.fake_cuda import FakeCuda
from tests.tensorrt.conftest import Machine
from tests.tensorrt.running import assert_right, build, images
from vitrify.errors import DeviceError, EngineError, RuntimeFailureError
from vitrify.runtimes.tensorrt import TensorRtRuntime
from vitrify.tensorrt import require_fit

OLD = "8.5.3.1"


def test_closing_gives_everything_back(machine: Machine, engine: Path) -> None:
    runtime = TensorRtRuntime(engine)
    for _ in range(2):  # and it can be opened again
        with runtime, concurrent.futures.ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda n: runtime.infer({"image": images(1 + n % 3)}), range(12)))
        assert not machine.cuda.memory
        assert not machine.cuda.graphs
        assert not machine.cuda.events
        assert list(machine.cuda.queues) == [0]


def test_each_busy_thread_has_a_worker_of_its_own(engine: Path) -> None:
    with TensorRtRuntime(engine) as runtime:
        together = threading.Barrier(3, timeout=20)

        def borrow(count: int) -> int:
            with runtime.session(count) as session:
                together.wait()
                return session.stream

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            assert len(set(pool.map(borrow, (1, 2, 3)))) == 3
        with runtime.session(1) as session, runtime.session(1) as other:
            assert session is not other


def test_a_worker_that_failed_is_not_lent_again(engine: Path) -> None:
    with TensorRtRuntime(engine) as runtime:
        with pytest.raises(ZeroDivisionError), runtime.session(1) as failed:
            raise ZeroDivisionError
        assert failed.closed
        batch = images(1)
        assert_right(runtime.infer({"image": batch})["logits"], batch)


def nothing_is_left(cuda: FakeCuda) -> bool:
    return not (cuda.memory or cuda.graphs or cuda.events) and list(cuda.queues) == [0]


def test_a_worker_that_comes_back_after_the_end_is_ended(machine: Machine, engine: Path) -> None:
    runtime = TensorRtRuntime(engine).open()
    with runtime.session(1) as session:
        runtime.close()
        before = session.closed
    assert (before, session.closed) == (False, True)
    assert nothing_is_left(machine.cuda)
    with pytest.raises(RuntimeFailureError, match="closed"), runtime.session(1):
        pass


def test_out_of_memory_is_named_and_leaves_nothing(machine: Machine, engine: Path) -> None:
    machine.cuda.free_bytes = 300_000
    with pytest.raises(DeviceError, match=r"out of memory[\s\S]*--profile"):
        TensorRtRuntime(engine).open()
    assert nothing_is_left(machine.cuda)


def test_opening_that_fails_half_way_leaves_nothing(
    machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: TensorRtRuntime) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(TensorRtRuntime, "_describe", fail)
    runtime = TensorRtRuntime(engine)
    with pytest.raises(ZeroDivisionError):
        runtime.open()
    assert nothing_is_left(machine.cuda)


def test_whatever_the_gpu_answers_everything_is_given_back(machine: Machine, engine: Path) -> None:
    with TensorRtRuntime(engine) as runtime:
        for _ in range(3):
            runtime.infer({"image": images(2)})
        runtime.infer({"image": images(3)})
        machine.cuda.broken = "cudaErrorIllegalAddress"
        with pytest.raises(DeviceError, match="cudaErrorIllegalAddress"):
            runtime.infer({"image": images(2)})
    assert nothing_is_left(machine.cuda)


def test_a_runtime_that_nobody_closed_gives_everything_back(machine: Machine, engine: Path) -> None:
    runtime = TensorRtRuntime(engine).open()
    for _ in range(3):
        runtime.infer({"image": images(2)})
    assert machine.cuda.memory
    del runtime
    gc.collect()
    assert nothing_is_left(machine.cuda)


def test_an_array_keeps_its_memory(machine: Machine, engine: Path) -> None:
    batch = images(2)
    with TensorRtRuntime(engine) as runtime:
        given = runtime.infer_on_device({"image": torch.from_numpy(batch)})["logits"]
        machine.cuda.synchronize(0)
    assert list(machine.cuda.memory) == [given.address]
    values = np.ctypeslib.as_array((ctypes.c_float * 12).from_address(given.address)).reshape(2, 6)
    assert_right(values, batch)
    del given
    assert nothing_is_left(machine.cuda)


def test_a_thread_may_use_another_gpu(machine: Machine, engine: Path) -> None:
    machine.cuda.device = 1
    with TensorRtRuntime(engine) as runtime:
        batch = images(2)
        assert_right(runtime.infer({"image": batch})["logits"], batch)
        assert machine.cuda.device == 1
    assert machine.cuda.device == 1


def test_a_worker_that_cannot_be_made_takes_no_profile(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    machine.use(FakeCuda(), OLD)
    with TensorRtRuntime(build(artifact, tmp_path, "1:1:8", "1:8:16")) as runtime:
        loaded, machine.cuda.free_bytes = len(machine.trt.loaded), 0
        with pytest.raises(DeviceError, match="out of memory"):
            runtime.infer({"image": images(16)})
        machine.cuda.free_bytes = 1 << 30
        runtime.infer({"image": images(16)})
        assert len(machine.trt.loaded) == loaded  # the first engine's profile was free


def test_the_engine_of_a_worker_that_failed_is_loaded_anew_once(
    machine: Machine, artifact: Path, tmp_path: Path
) -> None:
    machine.use(FakeCuda(), OLD)
    with TensorRtRuntime(build(artifact, tmp_path)) as runtime:
        for _ in range(2):
            loaded = len(machine.trt.loaded)
            with runtime.session(1) as session:
                first = weakref.ref(session.engine)
            del session
            with pytest.raises(ZeroDivisionError), runtime.session(1):
                raise ZeroDivisionError
            for _ in range(3):
                batch = images(1)
                assert_right(runtime.infer({"image": batch})["logits"], batch)
            assert len(machine.trt.loaded) == loaded + 1
            gc.collect()
            assert first() is None  # and does not stay beside the new one


def test_each_reading_of_a_plan_is_checked(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    machine.use(FakeCuda(), OLD)
    path = build(artifact, tmp_path)
    content = path.read_bytes()
    with TensorRtRuntime(path) as runtime, runtime.session(1):
        path.with_suffix(".new").write_bytes(b"of a rebuild")
        path.with_suffix(".new").replace(path)
        with runtime.session(1):  # loads the engine again: the one that was opened
            assert machine.trt.loaded[-1] == content
    path.write_bytes(content)
    with TensorRtRuntime(path) as runtime, runtime.session(1):
        path.write_bytes(content[:-1] + b"!")
        loaded = len(machine.trt.loaded)
        with pytest.raises(EngineError, match=r"not the plan[\s\S]*other bytes"), runtime.session(1):
            pass
        assert len(machine.trt.loaded) == loaded


def test_what_is_loaded_is_what_was_checked(
    machine: Machine, new_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, loaded = new_engine.read_bytes(), len(machine.trt.loaded)

    def replace(*arguments: Any) -> None:
        new_engine.write_bytes(content[:-1] + b"!")
        require_fit(*arguments)

    monkeypatch.setattr("vitrify.runtimes.tensorrt.require_fit", replace)
    with pytest.raises(EngineError, match="other bytes"):
        TensorRtRuntime(new_engine).open()
    assert len(machine.trt.loaded) == loaded
