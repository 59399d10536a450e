from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import tiny_spec
from vitrify.artifacts import Artifact, BuildConfig, Gpu, Manifest, manifest_path, read_manifest, read_spec
from vitrify.errors import EngineError, OptionError
from vitrify.files import sha256_of
from vitrify.tensorrt import TensorRt, require_fit
from vitrify.tensorrt.audit import audit_from_inspector
from vitrify.tensorrt.releases import release_of

H100 = Gpu(name="NVIDIA H100 80GB HBM3", compute_capability="9.0", memory_bytes=80 << 30, driver="13.0")
A100 = dataclasses.replace(H100, name="NVIDIA A100-SXM4-80GB", compute_capability="8.0")
H200 = dataclasses.replace(H100, name="NVIDIA H200")
T4 = dataclasses.replace(H100, name="Tesla T4", compute_capability="7.5")


def binding(version: str, flavour: Any = "full") -> TensorRt:
    return TensorRt(SimpleNamespace(), release_of(flavour, version), version)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "m.engine"
    path.write_bytes(b"a plan")
    manifest_path(path).write_text(made_for(path).to_json(), encoding="utf-8")
    return path


def made_for(path: Path, **changes: Any) -> Manifest:
    manifest = Manifest(
        onnx="m.onnx",
        onnx_sha256="0" * 64,
        plan_sha256=sha256_of(path),
        plan_bytes=path.stat().st_size,
        spec=tiny_spec(),
        flavour="full",
        tensorrt="10.13.0.35",
        versions={},
        gpu=H100,
        compute_capabilities=("9.0",),
        precision="fp32",
        config=BuildConfig(),
        pinned=(),
        date="2026-01-01T00:00:00+00:00",
        build_seconds=1.5,
        audit=audit_from_inspector("{}", asked="fp32", attention_blocks=2),
    )
    return dataclasses.replace(manifest, **changes)


def test_a_manifest_survives_the_file(plan: Path) -> None:
    assert read_manifest(plan) == made_for(plan)
    artifact = Artifact.open(plan)
    assert artifact.manifest == made_for(plan)
    assert (read_spec(plan), artifact.spec, artifact.precision) == (tiny_spec(), tiny_spec(), "fp32")
    artifact.require_intact()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("[]", "another version"),
        ('{"version": 2}', "another version"),
        ('{"version": 1}', "no onnx"),
        ('{"version": true}', "another version"),
    ],
)
def test_what_is_no_manifest_is_refused(plan: Path, text: str, says: str) -> None:
    manifest_path(plan).write_text(text)
    with pytest.raises(EngineError, match=rf"{says}[\s\S]*hint: vitrify build"):
        read_manifest(plan)
    with pytest.raises(EngineError):
        read_spec(plan)


def test_a_field_that_nobody_knows_is_refused(plan: Path) -> None:
    data = json.loads(manifest_path(plan).read_text())
    data["config"]["turbo"] = True
    manifest_path(plan).write_text(json.dumps(data))
    with pytest.raises(EngineError, match="unknown turbo"):
        read_manifest(plan)


def test_a_plan_alone_is_refused(plan: Path) -> None:
    manifest_path(plan).unlink()
    with pytest.raises(EngineError, match=r"no manifest, and a plan can carry code[\s\S]*trusted"):
        read_manifest(plan)
    with pytest.raises(EngineError, match="no manifest"):
        read_spec(plan)


def test_a_manifest_is_a_file_of_a_bounded_size(plan: Path) -> None:
    manifest_path(plan).write_bytes(b"[" * (17 << 20))
    with pytest.raises(EngineError, match="more than 16,777,216 bytes"):
        read_manifest(plan)
    manifest_path(plan).write_bytes(b"[" * (1 << 20))
    with pytest.raises(EngineError, match="cannot be read"):
        read_manifest(plan)
    manifest_path(plan).unlink()
    os.mkfifo(manifest_path(plan))
    with pytest.raises(EngineError, match="no regular file"):
        read_manifest(plan)


def test_other_kinds_of_files_have_no_manifest(artifact: Path) -> None:
    with pytest.raises(OptionError, match="is no engine"):
        _ = Artifact.open(artifact).manifest


@pytest.mark.parametrize("content", [b"b plan", b"a pla", b"a plan and more"])
def test_other_bytes_than_were_built_are_refused(plan: Path, content: bytes) -> None:
    plan.write_bytes(content)
    with pytest.raises(EngineError, match=r"not the plan that its manifest names[\s\S]*--rebuild"):
        Artifact.open(plan).require_intact()


@pytest.mark.parametrize(
    ("config", "here", "gpu", "differs"),
    [
        ({}, "10.13.0.35", H100, ""),
        ({}, "10.13.0.36", H100, "version: 10.13.0.36"),
        ({}, "11.0.0", H100, "version: 11.0.0"),
        ({}, "10.13.0.35", A100, "compute capability: 8.0"),
        ({}, "10.13.0.35", H200, "GPU: NVIDIA H200"),
        ({"version_compatible": True}, "10.14.1", H100, ""),
        ({"version_compatible": True}, "10.12.0", H100, "version: 10.12.0"),
        ({"version_compatible": True}, "11.0.0", H100, "version: 11.0.0"),
        ({"hardware_compatible": "same-compute-capability"}, "10.13.0.35", H200, ""),
        ({"hardware_compatible": "same-compute-capability"}, "10.13.0.35", A100, "compute capability: 8.0"),
        ({"hardware_compatible": "ampere+"}, "10.13.0.35", A100, ""),
        ({"hardware_compatible": "ampere+"}, "10.13.0.35", T4, "compute capability: 7.5"),
    ],
)
def test_where_an_engine_may_run(plan: Path, config: dict[str, Any], here: str, gpu: Gpu, differs: str) -> None:
    manifest = made_for(plan, config=BuildConfig(**config))
    if not differs:
        require_fit(plan, manifest, binding(here), gpu)
        return
    with pytest.raises(EngineError, match=r"not built for this machine[\s\S]*--rebuild") as caught:
        require_fit(plan, manifest, binding(here), gpu)
    assert caught.value.got == differs


def test_the_other_tensorrt_is_refused(plan: Path) -> None:
    with pytest.raises(EngineError, match=r"TensorRT: TensorRT-RTX 1\.7"):
        require_fit(plan, made_for(plan), binding("1.7.1", "rtx"), H100)


def test_everything_that_differs_is_named(plan: Path) -> None:
    with pytest.raises(EngineError) as caught:
        require_fit(plan, made_for(plan), binding("11.0"), A100)
    assert caught.value.got == "version: 11.0; compute capability: 8.0"
    assert caught.value.expected == "version: 10.13.0.35; compute capability: 9.0"


def test_a_manifest_of_tensorrt_without_a_gpu_fits_no_machine(plan: Path) -> None:
    with pytest.raises(EngineError, match=r"not built for this machine[\s\S]*GPU: none named[\s\S]*--rebuild"):
        require_fit(plan, made_for(plan, gpu=None), binding("10.13.0.35"), H100)
