"""The runtime over a stand-in for TensorRT and the GPU: what it promises of graphs, memory, workers and refusals."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import tiny_model
from tests.engines.conftest import Machine
from tests.engines.fake import FakeCuda
from vitrify.classifier import Classifier
from vitrify.engines import BuildConfig, Profile, device, manifest_path, session
from vitrify.engines.arrays import DeviceArray
from vitrify.engines.releases import release_of
from vitrify.errors import DeviceError, EngineError, MissingExtraError, OptionError, RuntimeFailureError
from vitrify.runtimes import RuntimeOptions
from vitrify.runtimes.tensorrt import TensorRtRuntime
from vitrify.workflows.build import engine_from_onnx

VERSIONS = ["10.13.0.35", "8.5.3.1"]


def build(artifact: Path, folder: Path, *profiles: str) -> Path:
    config = BuildConfig(profiles=tuple(map(Profile.parse, profiles or ("1:8:16",))), timing_cache="none")
    return engine_from_onnx(artifact, folder / "tiny.engine", config=config).path


def images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(count).standard_normal((count, 3, 32, 32), dtype=np.float32)


def truth(
    batch: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with torch.inference_mode():
        logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = tiny_model()(torch.from_numpy(batch)).numpy()
    return logits


def on_gpu(*shape: int, **fields: Any) -> DeviceArray:
    return DeviceArray(address=4096, shape=shape or (1, 3, 32, 32), dtype="float32", **fields)


@pytest.fixture(params=VERSIONS)
def engine(request: pytest.FixtureRequest, machine: Machine, artifact: Path, tmp_path: Path) -> Path:
    machine.use(FakeCuda(), request.param)
    return build(artifact, tmp_path)


@pytest.fixture
def new_engine(machine: Machine, artifact: Path, tmp_path: Path) -> Path:
    return build(artifact, tmp_path)


def test_a_repeated_batch_is_one_launch_and_says_the_same(machine: Machine, engine: Path) -> None:
    batch = images(3)
    with TensorRtRuntime(engine) as runtime:
        before, runs = machine.cuda.launches, machine.trt.runs
        answers = [runtime.infer({"image": batch})["logits"] for _ in range(4)]
        assert machine.cuda.launches - before == 2  # the second call runs, and is recorded
        assert machine.trt.runs - runs == 4
    for answer in answers:
        np.testing.assert_allclose(answer, truth(batch), rtol=1e-4, atol=1e-4)


def test_sizes_take_turns_without_disturbing_each_others_graphs(machine: Machine, engine: Path) -> None:
    # The stand-in fails where the context of a live graph is changed.
    with TensorRtRuntime(engine) as runtime:
        for count in (1, 1, 1, 4, 4, 1, 1, 4, 8, 4, 1, 8, 8, 8):
            answer = runtime.infer({"image": images(count)})["logits"]
            np.testing.assert_allclose(answer, truth(images(count)), rtol=1e-4, atol=1e-4)


def test_sizes_that_take_turns_are_not_recorded_over_and_over(
    machine: Machine, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures: list[int] = []
    capture = FakeCuda.capture

    def counted(cuda: FakeCuda, stream: int) -> contextlib.AbstractContextManager[list[int]]:
        captures.append(stream)
        return capture(cuda, stream)

    monkeypatch.setattr(FakeCuda, "capture", counted)
    with TensorRtRuntime(engine) as runtime:
        for _ in range(5):
            for count in (1, 2):
                runtime.infer({"image": images(count)})
    assert len(captures) == (0 if machine.trt.old else 2)


def test_the_graph_that_was_used_longest_ago_makes_room(
    machine: Machine, new_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_GRAPHS", 2)
    with TensorRtRuntime(new_engine) as runtime:
        for count in (1, 1, 2, 2, 1, 3, 3):  # 2 goes
            runtime.infer({"image": images(count)})
        assert len(machine.cuda.graphs) == 2
        for count, launched in ((1, 1), (3, 1), (2, 0)):
            before = machine.cuda.launches
            runtime.infer({"image": images(count)})
            assert machine.cuda.launches - before == launched


@pytest.mark.parametrize("fails", ["capture", "context"])
def test_what_cannot_be_recorded_is_answered_all_the_same(machine: Machine, engine: Path, fails: str) -> None:
    with TensorRtRuntime(engine) as runtime:
        if fails == "capture":
            machine.cuda.refuse_capture = "cudaErrorStreamCaptureUnsupported"
        elif machine.trt.old:
            pytest.skip("8.5 records its only context")
        else:
            machine.trt.most_contexts = machine.trt.contexts
        runs = machine.trt.runs
        for turn in range(4):
            batch = images(3)
            np.testing.assert_allclose(runtime.infer({"image": batch})["logits"], truth(batch), rtol=1e-4, atol=1e-4)
            if turn == 1:
                machine.cuda.refuse_capture, machine.trt.most_contexts = "", 1 << 20
        assert machine.trt.runs - runs == 4
        assert not machine.cuda.graphs  # it is not tried again and again


def test_tensorrt_rtx_runs_without_graphs(machine: Machine, new_engine: Path) -> None:
    with TensorRtRuntime(new_engine) as runtime:
        rtx = dataclasses.replace(machine.trt.binding, release=release_of("rtx", "1.7"))
        alone = session.Session(
            machine.cuda,
            rtx,
            runtime._engine,
            runtime._tensors,
            index=0,
            profile=runtime.profiles[0],
            graphs=True,
        )
        before = machine.cuda.launches
        for _ in range(3):
            alone.run({"image": images(2)})
        alone.close()
        assert not machine.cuda.graphs
        assert machine.cuda.launches == before


def test_without_graphs_nothing_is_recorded(machine: Machine, engine: Path) -> None:
    with TensorRtRuntime(engine, RuntimeOptions(cuda_graphs=False)) as runtime:
        before = machine.cuda.launches
        for _ in range(4):
            np.testing.assert_allclose(
                runtime.infer({"image": images(2)})["logits"], truth(images(2)), rtol=1e-4, atol=1e-4
            )
        assert machine.cuda.launches == before
        assert not machine.cuda.graphs


def test_warm_inference_allocates_nothing(machine: Machine, engine: Path) -> None:
    with TensorRtRuntime(engine) as runtime:
        sizes = (1, 5, 16)
        for _ in range(3):
            for count in sizes:
                runtime.infer({"image": images(count)})
        before = machine.cuda.allocations
        for count in (*sizes, 7):  # a new size too: memory was taken for the largest
            runtime.infer({"image": images(count)})
        assert machine.cuda.allocations == before


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
        assert failed.stream == 0
        np.testing.assert_allclose(
            runtime.infer({"image": images(1)})["logits"], truth(images(1)), rtol=1e-4, atol=1e-4
        )


def test_arrays_of_another_library_are_used_in_place(machine: Machine, engine: Path) -> None:
    with TensorRtRuntime(engine) as runtime:
        batch = torch.from_numpy(images(4))
        into = torch.zeros(4, 6)
        stream = machine.cuda.create_stream()
        for turn in range(4):
            into.zero_()
            given = runtime.infer_on_device({"image": batch}, stream=stream, outputs={"logits": into})["logits"]
            assert given.address == into.data_ptr()
            if turn != 1:  # recording a graph waits, once
                assert not into.any()
            machine.cuda.synchronize(stream)
            np.testing.assert_allclose(into.numpy(), truth(batch.numpy()), rtol=1e-4, atol=1e-4)
        machine.cuda.destroy_stream(stream)
        runtime.infer({"image": images(1)})


def test_without_outputs_the_runtimes_own_memory_is_given(machine: Machine, engine: Path) -> None:
    with TensorRtRuntime(engine) as runtime:
        given = runtime.infer_on_device({"image": torch.from_numpy(images(2))})["logits"]
        assert (given.shape, given.dtype) == ((2, 6), "float32")
        machine.cuda.synchronize(0)
        assert given.address in machine.cuda.memory


@pytest.mark.parametrize(
    ("batch", "outputs", "says"),
    [
        ({"picture": torch.zeros(1, 3, 32, 32)}, {}, "picture"),
        ({}, {}, "no arrays"),
        ({"image": torch.zeros(1, 3, 32, 32)}, {"scores": torch.zeros(1, 6)}, "scores"),
        ({"image": torch.zeros(1, 3, 31, 32)}, {}, r"\[1, 3, 31, 32\]"),
        ({"image": torch.zeros(1, 3, 32, 32, dtype=torch.float16)}, {}, "float16"),
        ({"image": torch.zeros(2, 3, 32, 32)}, {"logits": torch.zeros(1, 6)}, r"\[1, 6\]"),
        ({"image": torch.zeros(32, 32, 3, 1).permute(3, 2, 1, 0)}, {}, "not C-contiguous"),
        ({"image": [1, 2]}, {}, "list"),
        ({"image": torch.tensor(1.0)}, {}, r"float32 \[\]"),
        ({"image": torch.zeros(0, 3, 32, 32)}, {}, r"\[0, 3, 32, 32\]"),
        ({"image": torch.zeros(1, 3, 32, 32)}, {"logits": torch.tensor(1.0)}, r"float32 \[\]"),
        ({"image": on_gpu(device_type=3)}, {}, "device type 3"),
        ({"image": on_gpu(device_index=1)}, {}, r"index 1[\s\S]*hint: move it"),
        ({"image": torch.zeros(1, 3, 32, 32)}, {"logits": on_gpu(1, 6, readonly=True)}, "read-only"),
    ],
)
def test_a_wrong_array_is_named(
    new_engine: Path, batch: dict[str, object], outputs: dict[str, object], says: str
) -> None:
    with TensorRtRuntime(new_engine) as runtime, pytest.raises(RuntimeFailureError, match=says):
        runtime.infer_on_device(batch, outputs=outputs)


def test_memory_of_the_host_is_refused_where_there_is_a_device(
    machine: Machine, new_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeCuda, "memory_kinds", device.BoundCuda.memory_kinds)
    with (
        TensorRtRuntime(new_engine) as runtime,
        pytest.raises(RuntimeFailureError, match=r"image is not in this GPU's memory[\s\S]*type 1,[\s\S]*infer\(\)"),
    ):
        runtime.infer_on_device({"image": torch.zeros(1, 3, 32, 32)})


def test_a_batch_outside_every_profile(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    with TensorRtRuntime(build(artifact, tmp_path, "2:4:8", "16:16:16")) as runtime:
        assert [runtime.fitting_batch(count) for count in (1, 2, 8, 9, 16, 17, 40)] == [2, 2, 8, 16, 16, 16, 16]
        for count in (1, 9, 17):
            with pytest.raises(
                RuntimeFailureError, match=rf"no profile[\s\S]*{count}[\s\S]*2 to 8, 16 to 16[\s\S]*--prof"
            ):
                runtime.infer({"image": images(count)})
        for count in (2, 8, 16):
            runtime.infer({"image": images(count)})


def test_the_profile_tuned_closest_is_taken(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    with TensorRtRuntime(build(artifact, tmp_path, "1:1:8", "1:8:16")) as runtime:
        for count, profile in ((1, "1:1:8"), (3, "1:1:8"), (6, "1:8:16"), (16, "1:8:16")):
            with runtime.session(count) as session:
                assert str(session.profile) == profile


def test_a_static_engine_classifies_any_number_of_images(
    machine: Machine, artifact: Path, photos: Path, tmp_path: Path
) -> None:
    sources = sorted(photos.rglob("*.*g"))[:7]
    with Classifier(build(artifact, tmp_path, "4")) as static, Classifier(artifact, runtime="onnxruntime") as truth_of:
        assert static.runtime.name == "tensorrt"
        for one, other in zip(static(sources), truth_of(sources), strict=True):
            assert one.label == other.label
            np.testing.assert_allclose(one.logits, other.logits, rtol=1e-3, atol=1e-4)


def test_out_of_memory_is_named_and_leaves_nothing(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    path = build(artifact, tmp_path)
    machine.cuda = FakeCuda(memory_bytes=300_000)
    machine.trt.cuda = machine.cuda
    with pytest.raises(DeviceError, match=r"out of memory[\s\S]*--profile"):
        TensorRtRuntime(path).open()
    assert not machine.cuda.memory


def test_another_version_gpu_or_plan_is_refused_before_it_is_loaded(
    machine: Machine, artifact: Path, tmp_path: Path
) -> None:
    path = build(artifact, tmp_path)
    machine.use(FakeCuda(), "10.14.0.1")
    with pytest.raises(EngineError, match=r"version: 10\.14\.0\.1[\s\S]*10\.13\.0\.35[\s\S]*--rebuild"):
        TensorRtRuntime(path).open()
    other = device.Gpu(name="NVIDIA L4", compute_capability="8.9", memory_bytes=1, driver="13.0")
    machine.use(FakeCuda(other))
    with pytest.raises(EngineError, match=r"compute capability: 8\.9"):
        TensorRtRuntime(path).open()
    machine.use(FakeCuda())
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(EngineError, match="other bytes"):
        TensorRtRuntime(path).open()


def test_a_plan_without_a_manifest_runs_only_when_trusted(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    path = build(artifact, tmp_path)
    manifest_path(path).unlink()
    with pytest.raises(EngineError, match="no manifest"):
        TensorRtRuntime(path).open()
    with TensorRtRuntime(path, RuntimeOptions(trusted=True)) as runtime:
        np.testing.assert_allclose(
            runtime.infer({"image": images(2)})["logits"], truth(images(2)), rtol=1e-4, atol=1e-4
        )
    path.write_bytes(b"no plan at all")
    with pytest.raises(EngineError, match=r"refuses[\s\S]*magic tag"):
        TensorRtRuntime(path, RuntimeOptions(trusted=True)).open()


def test_devices_and_files_that_are_not_there(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="first visible GPU"):
        TensorRtRuntime(build(artifact, tmp_path), RuntimeOptions(device="cuda:1")).open()
    with pytest.raises(Exception, match="no such file"):
        TensorRtRuntime(tmp_path / "gone.engine").open()


def cudart(count: tuple[int, ...], *, driver: int = 13000, memory: int = 0) -> SimpleNamespace:
    """cuda-bindings with a device count, a driver version, and an answer to cudaMalloc."""

    def status(code: int) -> SimpleNamespace:
        names = {
            0: "cudaSuccess",
            2: "cudaErrorMemoryAllocation",
            35: "cudaErrorInsufficientDriver",
            100: "cudaErrorNoDevice",
        }
        return type("Status", (int,), {"name": names[code]})(code)  # type: ignore[no-any-return]

    return SimpleNamespace(
        cudaGetDeviceCount=lambda: (status(count[0]), *count[1:]),
        cudaSetDevice=lambda index: (status(0),),
        cudaDriverGetVersion=lambda: (status(0), driver),
        cudaRuntimeGetVersion=lambda: (status(0), 13050),
        cudaMalloc=lambda size: (status(memory), 4096),
        cudaMemGetInfo=lambda: (status(0), 10**9, 80 * 10**9),
        cudaGetErrorString=lambda code: (status(0), b"text"),
    )


def bound(monkeypatch: pytest.MonkeyPatch, runtime: SimpleNamespace) -> device.BoundCuda:
    from cuda import bindings

    monkeypatch.setattr(bindings, "runtime", runtime, raising=False)
    return device.BoundCuda()


def test_the_gpus_refusals_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"no NVIDIA GPU[\s\S]*no NVIDIA driver"):
        bound(monkeypatch, cudart((35, 0), driver=0))
    with pytest.raises(DeviceError, match=r"no NVIDIA GPU[\s\S]*cudaErrorNoDevice"):
        bound(monkeypatch, cudart((100, 0)))
    with pytest.raises(DeviceError, match=r"no NVIDIA GPU[\s\S]*0 devices"):
        bound(monkeypatch, cudart((0, 0)))
    with pytest.raises(DeviceError, match=r"driver is too old[\s\S]*CUDA 11\.4[\s\S]*CUDA 13\.5 or newer[\s\S]*update"):
        bound(monkeypatch, cudart((35, 0), driver=11040))
    gpu = bound(monkeypatch, cudart((0, 1), memory=2))
    with pytest.raises(DeviceError, match=r"out of memory[\s\S]*1\.00 of 80\.00 GB free[\s\S]*2\.00 GB for cudaMalloc"):
        gpu.allocate(2 * 10**9)


def test_without_cuda_bindings_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingExtraError, match=r'cuda-bindings[\s\S]*pip install "vitrify\[tensorrt\]"'):
        device.BoundCuda()
