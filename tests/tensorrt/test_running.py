"""The runtime over a stand-in for TensorRT and the GPU: what it promises of graphs, profiles and refusals."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from tests.cuda.fake_cuda import L4, FakeCuda
from tests.tensorrt.conftest import Machine
from tests.tensorrt.running import assert_right, build, images
from vitrify.artifacts import manifest_path
from vitrify.classifier import Classifier
from vitrify.errors import EngineError, OptionError, RuntimeFailureError
from vitrify.runtimes import open_runtime
from vitrify.runtimes.tensorrt import TensorRtOptions, TensorRtRuntime
from vitrify.tensorrt import session


def test_a_repeated_batch_is_one_launch_and_says_the_same(machine: Machine, engine: Path) -> None:
    batch = images(3)
    with TensorRtRuntime(engine) as runtime:
        before, runs = machine.cuda.launches, machine.trt.runs
        answers = [runtime.infer({"image": batch})["logits"] for _ in range(4)]
        assert machine.cuda.launches - before == 2  # the second call runs, and is recorded
        assert machine.trt.runs - runs == 4
    for answer in answers:
        assert_right(answer, batch)


def test_sizes_take_turns_without_disturbing_each_others_graphs(machine: Machine, engine: Path) -> None:
    # The stand-in fails where the context of a live graph is changed.
    with TensorRtRuntime(engine) as runtime:
        for count in (1, 1, 1, 4, 4, 1, 1, 4, 8, 4, 1, 8, 8, 8):
            batch = images(count)
            assert_right(runtime.infer({"image": batch})["logits"], batch)


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
            assert_right(runtime.infer({"image": batch})["logits"], batch)
            if turn == 1:
                machine.cuda.refuse_capture, machine.trt.most_contexts = "", 1 << 20
        assert machine.trt.runs - runs == 4
        assert not machine.cuda.graphs  # it is not tried again and again


def test_tensorrt_rtx_runs_without_graphs(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    machine.use(FakeCuda(L4), "1.7.1.116", "rtx")
    with TensorRtRuntime(build(artifact, tmp_path)) as runtime:
        before = machine.cuda.launches
        for _ in range(3):
            batch = images(2)
            assert_right(runtime.infer({"image": batch})["logits"], batch)
        assert not machine.cuda.graphs
        assert machine.cuda.launches == before


def test_without_graphs_nothing_is_recorded(machine: Machine, engine: Path) -> None:
    with TensorRtRuntime(engine, TensorRtOptions(cuda_graphs=False)) as runtime:
        before = machine.cuda.launches
        for _ in range(4):
            batch = images(2)
            assert_right(runtime.infer({"image": batch})["logits"], batch)
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


def test_a_batch_outside_every_profile(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    with TensorRtRuntime(build(artifact, tmp_path, "2:4:8", "16:16:16")) as runtime:
        fitting = runtime.describe().fitting_batch
        assert [fitting(count) for count in (1, 2, 8, 9, 16, 17, 40)] == [2, 2, 8, 16, 16, 16, 16]
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


def test_another_version_gpu_or_plan_is_refused_before_it_is_loaded(
    machine: Machine, artifact: Path, tmp_path: Path
) -> None:
    path = build(artifact, tmp_path)
    machine.use(FakeCuda(), "10.14.0.1")
    with pytest.raises(EngineError, match=r"version: 10\.14\.0\.1[\s\S]*10\.13\.0\.35[\s\S]*--rebuild"):
        TensorRtRuntime(path).open()
    machine.use(FakeCuda(L4))
    with pytest.raises(EngineError, match=r"compute capability: 8\.9"):
        TensorRtRuntime(path).open()
    machine.use(FakeCuda())
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(EngineError, match="other bytes"):
        TensorRtRuntime(path).open()


def test_a_plan_without_a_manifest_runs_only_when_trusted(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    path = build(artifact, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"!")
    with pytest.raises(EngineError, match="other bytes"):  # trust excuses a missing manifest alone
        TensorRtRuntime(path, TensorRtOptions(trusted=True)).open()
    path.write_bytes(content)
    manifest_path(path).unlink()
    with pytest.raises(EngineError, match="no manifest"):
        TensorRtRuntime(path).open()
    with TensorRtRuntime(path, TensorRtOptions(trusted=True)) as runtime:
        batch = images(2)
        assert_right(runtime.infer({"image": batch})["logits"], batch)
    path.write_bytes(b"no plan at all")
    with pytest.raises(EngineError, match=r"refuses[\s\S]*magic tag"):
        TensorRtRuntime(path, TensorRtOptions(trusted=True)).open()


def test_devices_and_files_that_are_not_there(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"tensorrt runtime has no option device[\s\S]*torch"):
        open_runtime(build(artifact, tmp_path), device="cuda:1")
    with pytest.raises(Exception, match="no such file"):
        TensorRtRuntime(tmp_path / "gone.engine").open()
