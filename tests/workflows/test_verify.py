"""`vitrify verify` of an engine: what its manifest keeps; over a stand-in for TensorRT."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.cuda.fake_cuda import L4, FakeCuda
from tests.tensorrt.conftest import Machine, machine
from vitrify.artifacts import Artifact, BuildConfig, manifest_path, read_manifest
from vitrify.cli.app import run
from vitrify.cuda import driver
from vitrify.errors import DeviceError, StorageError
from vitrify.verification import verify_artifact
from vitrify.workflows import verify as workflow
from vitrify.workflows.build import engine_from_onnx
from vitrify.workflows.verify import verify_and_record

__all__ = ["machine"]


@pytest.fixture
def unverified(machine: Machine, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine of TensorRT-RTX that was built where there is no GPU, seen from the GPU that it was built for."""

    def none() -> FakeCuda:
        raise DeviceError("there is no NVIDIA GPU that can be used")

    machine.use(FakeCuda(L4), "1.7.1.116", "rtx")
    with monkeypatch.context() as patch:
        patch.setattr(driver, "cuda", none)
        config = BuildConfig(tensorrt="rtx", compute_capabilities=("8.9",))
        path = engine_from_onnx(artifact, tmp_path / "m.engine", config=config).path
    assert read_manifest(path).verification is None
    return path


def test_an_engine_that_was_built_elsewhere_is_verified_on_its_gpu(unverified: Path, artifact: Path) -> None:
    before = read_manifest(unverified)
    result = verify_and_record(unverified, reference=artifact)
    after = read_manifest(unverified)
    assert after.verification == result.verification
    assert after.verification is not None
    assert after.verification.machine == "NVIDIA L4"
    assert dataclasses.replace(after, verification=None) == before
    assert result.notes == ()
    Artifact.open(unverified).require_intact()


def test_an_engine_that_does_not_pass_stays_unverified(
    machine: Machine, unverified: Path, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.trt.error = 0.01
    content = manifest_path(unverified).read_bytes()
    assert run(["verify", str(unverified), "--reference", str(artifact)]) == 1
    assert "m.engine --rebuild" in "".join(capsys.readouterr().err.split("\n"))
    assert manifest_path(unverified).read_bytes() == content


def test_a_record_gives_way_to_one_that_compared_as_much(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    path = engine_from_onnx(artifact, tmp_path / "m.engine").path
    first = read_manifest(path).verification
    result = verify_and_record(path)  # golden vectors alone
    assert result.notes == ("the manifest keeps its record, which also compared random inputs",)
    assert read_manifest(path).verification == first
    result = verify_and_record(path, reference=artifact)
    assert (read_manifest(path).verification, result.notes) == (result.verification, ())


def test_the_command_says_what_was_kept(
    machine: Machine, unverified: Path, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(unverified), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["machine"] == "NVIDIA L4"
    assert read_manifest(unverified).verification is not None
    assert run(["verify", str(unverified), "--reference", str(artifact)]) == 0
    assert run(["verify", str(unverified)]) == 0
    assert "note: the manifest keeps its record" in capsys.readouterr().out


def test_a_manifest_that_cannot_be_written_is_no_failure(unverified: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise StorageError("cannot write m.engine.json")

    monkeypatch.setattr(workflow, "atomic_write", full)
    assert verify_and_record(unverified).notes == ("the record is not kept: cannot write m.engine.json",)


def test_the_record_of_an_engine_is_not_given_to_its_successor(
    unverified: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(unverified)
    newer = dataclasses.replace(manifest, date="2030-01-01T00:00:00+00:00")

    def rebuilt_meanwhile(*arguments: object, **options: object) -> object:
        record = verify_artifact(unverified)
        manifest_path(unverified).write_text(newer.to_json(), encoding="utf-8")
        return record

    monkeypatch.setattr(workflow, "verify_artifact", rebuilt_meanwhile)
    assert verify_and_record(unverified).notes == (
        "the engine was rebuilt meanwhile: its manifest keeps its own record",
    )
    assert read_manifest(unverified) == newer
