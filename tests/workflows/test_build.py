"""What happens around a build, over a stand-in for TensorRT and the GPU: judged, recorded and placed, or nothing."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.cuda.fake_cuda import FakeCuda
from tests.tensorrt.conftest import Machine, machine
from tests.tensorrt.graphs import write_claiming
from vitrify.artifacts import BuildConfig, Profile, read_manifest
from vitrify.cuda import driver
from vitrify.errors import BuildError, DeviceError, GateError, OptionError
from vitrify.spec import Precision
from vitrify.verification import verify_artifact
from vitrify.workflows.build import engine_from_onnx

__all__ = ["machine"]

NEW, OLD = "10.13.0.35", "8.5.3.1"


def config(**options: object) -> BuildConfig:
    return dataclasses.replace(BuildConfig(timing_cache="none"), **options)  # type: ignore[arg-type]


def test_an_engine_is_compared_with_its_source_on_its_gpu(
    machine: Machine, artifact: Path, photos: Path, tmp_path: Path
) -> None:
    result = engine_from_onnx(artifact, tmp_path / "m.engine", config=config(), images=sorted(photos.rglob("*.*g")))
    record = result.manifest.verification
    assert record is not None
    assert record == read_manifest(result.path).verification
    assert record.machine == "NVIDIA H100 80GB HBM3"
    assert record.reference == f"golden vectors and {artifact.name}"
    assert {(check.inputs, check.batch, check.count) for check in record.checks} == {
        ("golden", 3, 3),
        ("random", 1, 1),
        ("random", 3, 3),
        ("random", 8, 8),
        ("random", 64, 64),  # the largest batch of its profile
        ("images", 8, 40),
    }
    assert all(check.passed and check.runtime == "tensorrt" for check in record.checks)
    assert record.versions.keys() >= {"tensorrt", "onnxruntime", "vitrify"}
    assert result.notes == ()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["m.engine", "m.engine.json"]


def test_verify_judges_an_engine_again(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    path = engine_from_onnx(artifact, tmp_path / "m.engine", config=config()).path
    assert all(check.passed for check in verify_artifact(path).checks)
    machine.trt.error = 0.01
    assert not all(check.passed for check in verify_artifact(path, reference=artifact).checks)


def test_images_are_compared_with_the_source_and_never_with_the_engine_itself(
    machine: Machine, artifact: Path, photos: Path, tmp_path: Path
) -> None:
    source = tmp_path / "m.onnx"
    shutil.copy(artifact, source)
    path = engine_from_onnx(source, tmp_path / "m.engine", config=config()).path
    photo = sorted(photos.rglob("*.png"))[:3]
    record = verify_artifact(path, images=photo)
    assert record.reference == "golden vectors and m.onnx"
    assert all(check.passed for check in record.checks)
    machine.trt.error = 0.01
    failed = {check.inputs for check in verify_artifact(path, images=photo).checks if not check.passed}
    assert failed >= {"random", "images"}
    source.write_bytes(source.read_bytes() + b"\0")
    with pytest.raises(OptionError, match=r"nothing to compare m\.engine with[\s\S]*--reference"):
        verify_artifact(path, images=photo)


def test_every_end_of_every_profile_is_compared(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    profiles = (Profile.parse("2:4:6"), Profile.parse("16"))
    checks = engine_from_onnx(artifact, tmp_path / "m.engine", config=config(profiles=profiles)).manifest.verification
    assert {2, 6, 16} <= {check.batch for check in checks.checks if check.inputs == "random"}  # type: ignore[union-attr]


def test_a_wrong_engine_never_appears(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    machine.trt.error = 0.01
    target = tmp_path / "m.engine"
    target.write_bytes(b"what stood here")
    with pytest.raises(GateError, match=r"the engine does not give its reference's answers[\s\S]*hint: an fp32 engine"):
        engine_from_onnx(artifact, target, config=config())
    assert target.read_bytes() == b"what stood here"
    assert list(tmp_path.iterdir()) == [target]
    assert not machine.cuda.memory


def test_fp16_has_a_gate_of_its_own(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    machine.use(FakeCuda(), OLD)
    machine.trt.error, machine.trt.types = 0.01, "Half"
    manifest = engine_from_onnx(artifact, tmp_path / "m.engine", config=config(precision="fp16")).manifest
    assert manifest.spec.precision == "fp16"
    assert {check.precision for check in manifest.verification.checks} == {"fp16"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("version", "graph", "options", "hint"),
    [
        (NEW, "fp16", {}, "try bf16, whose range is fp32's, or fp32; nothing was written"),
        (OLD, "fp32", {"precision": "fp16"}, "try fp32; nothing was written"),  # it has no bf16
        (OLD, "fp32", {"precision": "fp16", "hold_norms": False}, "leave --no-hold-norms out; try fp32; nothing"),
        (NEW, "bf16", {}, "try fp16, which rounds less, or fp32; nothing was written"),
        (NEW, "fp8", {}, "try fp16, or fewer quantized blocks; nothing was written"),
        (OLD, "int8", {}, "try fp16, or fewer quantized blocks; nothing was written"),
    ],
)
def test_the_advice_names_what_the_release_has(
    machine: Machine,
    artifact: Path,
    tmp_path: Path,
    *,
    version: str,
    graph: Precision,
    options: dict[str, Any],
    hint: str,
) -> None:
    machine.use(FakeCuda(), version)
    machine.trt.error = 1.0
    machine.trt.types = {"fp32": "Half", "fp16": "Half", "bf16": "BFloat16"}.get(graph, graph)
    source = write_claiming(artifact, tmp_path / "m.onnx", graph)
    with pytest.raises(GateError) as caught:
        engine_from_onnx(source, tmp_path / "m.engine", config=config(**options))
    assert str(caught.value.hint).startswith(hint)


def test_8_makes_fp16_by_flags_and_holds_softmax_in_fp32(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    machine.use(FakeCuda(), OLD)
    machine.trt.types = "Half"
    module = machine.trt.module
    manifest = engine_from_onnx(artifact, tmp_path / "m.engine", config=config(precision="fp16")).manifest
    softmaxes = [node.name for node in onnx.load(artifact).graph.node if node.op_type == "Softmax"]
    assert list(manifest.pinned) == softmaxes
    assert len(softmaxes) == 2
    assert machine.trt.config.flags == {module.BuilderFlag.FP16, module.BuilderFlag.OBEY_PRECISION_CONSTRAINTS}
    assert machine.trt.network.flags == 1 << int(module.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    for layer in machine.trt.network.layers:
        held = module.DataType.FLOAT if layer.name in softmaxes else None
        assert layer.precision == layer.output_type == held


def test_8_holds_norms_of_a_graph_in_fp16_too(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    machine.use(FakeCuda(), OLD)
    machine.trt.types, machine.trt.layer_types = "Half", "HALF"
    half = write_claiming(artifact, tmp_path / "half.onnx", "fp16")
    manifest = engine_from_onnx(half, tmp_path / "m.engine", config=config()).manifest
    assert len(manifest.pinned) == 2
    assert machine.trt.module.BuilderFlag.OBEY_PRECISION_CONSTRAINTS in machine.trt.config.flags


def test_norms_of_an_engine_in_fp32_cannot_be_let_go(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    machine.use(FakeCuda(), OLD)
    with pytest.raises(OptionError, match=r"in fp32[\s\S]*leave --no-hold-norms out"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config(hold_norms=False))


def test_a_plan_that_does_not_load_is_no_build(
    machine: Machine, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.trt.module.Runtime, "deserialize_cuda_engine", lambda self, plan: None)
    with pytest.raises(BuildError, match="does not load what it built"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config())
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_that_is_gone_loses_no_build(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    class Gone:
        phases: list[str] = []  # noqa: RUF012

        def say(self, message: str) -> None:
            pass

        def track(self, items: Any, *, label: str, total: int | None = None) -> Any:
            if label == "Building engine":
                self.phases.append(label)
                raise BrokenPipeError
            return iter(items)

    assert engine_from_onnx(artifact, tmp_path / "m.engine", config=config(), progress=Gone()).path.exists()
    assert Gone.phases


def test_a_flag_that_gave_fp32_fails(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    machine.use(FakeCuda(), OLD)
    with pytest.raises(GateError, match="did not build what was asked for: fp16"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config(precision="fp16"))


def test_fp32_means_fp32_unless_tf32_is_permitted(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    tf32 = machine.trt.module.BuilderFlag.TF32
    for permitted in (False, True):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config(tf32=permitted))
        assert (tf32 in machine.trt.config.flags) == permitted
    strong = machine.trt.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert machine.trt.network.flags == 1 << int(strong)


def test_options_reach_the_builder(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    options = config(
        workspace_mib=256,
        optimization_level=4,
        hardware_compatible="ampere+",
        version_compatible=True,
        tactic_sources=("CUBLAS_LT",),
        profiles=(Profile.parse("1"), Profile.parse("2:8:16")),
    )
    engine_from_onnx(artifact, tmp_path / "m.engine", config=options)
    made, module = machine.trt.config, machine.trt.module
    assert made.limits == {module.MemoryPoolType.WORKSPACE: 256 << 20}
    assert made.builder_optimization_level == 4
    assert made.hardware_compatibility_level == module.HardwareCompatibilityLevel.AMPERE_PLUS
    assert module.BuilderFlag.VERSION_COMPATIBLE in made.flags
    assert made.tactics == 1 << int(module.TacticSource.CUBLAS_LT)
    assert made.profiles == [[1, 1, 1], [2, 8, 16]]
    assert made.profiling_verbosity == module.ProfilingVerbosity.DETAILED


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"optimization_level": 3}, "has not got an optimisation level"),
        ({"version_compatible": True}, "has not got version-compatible engines"),
        ({"hardware_compatible": "ampere+"}, "has not got hardware compatibility"),
        ({"precision": "bf16"}, "cannot turn a graph in fp32 into bf16"),
        ({"compute_capabilities": ("8.9",)}, "builds for the GPU of this machine"),
    ],
)
def test_what_an_old_release_has_not_got(
    machine: Machine, artifact: Path, tmp_path: Path, options: dict[str, object], says: str
) -> None:
    machine.use(FakeCuda(), OLD)
    with pytest.raises(OptionError, match=rf"TensorRT 8\.5\.3\.1 {says}"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config(**options))


def test_the_builders_refusals_have_names(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    machine.trt.refuse = "Requested amount of GPU memory (12 bytes) could not be allocated: out of memory"
    with pytest.raises(DeviceError, match=r"memory does not suffice[\s\S]*smaller largest batch than 64"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config())
    machine.trt.refuse = "Could not find any implementation for node blocks.0"
    with pytest.raises(BuildError, match=r"no engine of the graph[\s\S]*blocks\.0"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config())
    assert list(tmp_path.iterdir()) == []


def test_a_static_profile_is_compared_too(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    result = engine_from_onnx(artifact, tmp_path / "m.engine", config=config(profiles=(Profile.parse("4"),)))
    assert [check.count for check in result.manifest.verification.checks] == [3, 1, 3, 8, 4]  # type: ignore[union-attr]


def test_without_a_gpu_that_can_be_used_nothing_is_parsed(
    machine: Machine, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_old() -> FakeCuda:
        raise DeviceError("the NVIDIA driver is too old", hint="update the driver")

    monkeypatch.setattr(driver, "cuda", too_old)
    with pytest.raises(DeviceError, match=r"driver is too old[\s\S]*update the driver"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config())
    assert machine.trt.network is None
    assert list(tmp_path.iterdir()) == []
