"""Which bytes a build reads, and what is on the disk after it, whatever happens; over a stand-in for TensorRT."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cuda.fake_cuda import FakeCuda
from tests.tensorrt.conftest import Machine, machine
from tests.tensorrt.graphs import write_claiming
from vitrify.artifacts import BuildConfig, Profile, manifest_path
from vitrify.errors import ArtifactError, EngineError, StorageError
from vitrify.files import sha256_of
from vitrify.progress import SILENT
from vitrify.runtimes import open_runtime
from vitrify.workflows import build as workflow
from vitrify.workflows.build import engine_from_manifest, engine_from_onnx

__all__ = ["machine"]

NOTHING_KEPT = BuildConfig(timing_cache="none")


class Said:
    """A progress that keeps what is said."""

    def __init__(self, said: list[str]) -> None:
        self.say = said.append
        self.track = SILENT.track


class Acting:
    """A progress that does something when it is told that the build begins."""

    def __init__(self, act: Any) -> None:
        self._act = act
        self.track = SILENT.track

    def say(self, message: str) -> None:
        if message.startswith("building with"):
            self._act()


def test_a_graph_that_changes_during_the_build_is_no_engine(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    shutil.copy(artifact, source)
    progress = Acting(lambda: write_claiming(artifact, source, "bf16"))
    with pytest.raises(ArtifactError, match=r"m\.onnx changed while its engine was built[\s\S]*again"):
        engine_from_onnx(source, tmp_path / "m.engine", config=NOTHING_KEPT, progress=progress)
    assert list(tmp_path.iterdir()) == [source]


def test_what_is_built_hashed_and_described_is_one_reading(
    machine: Machine, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "m.onnx"
    shutil.copy(artifact, source)
    before = sha256_of(source)
    monkeypatch.setattr(workflow, "_runs_here", lambda *arguments: False)  # as for a GPU that is elsewhere
    progress = Acting(lambda: write_claiming(artifact, source, "bf16"))
    manifest = engine_from_onnx(source, tmp_path / "m.engine", config=NOTHING_KEPT, progress=progress).manifest
    assert (manifest.onnx_sha256, manifest.precision) == (before, "fp32")
    assert machine.trt.network.graph == artifact.read_bytes()


@pytest.mark.parametrize("there", [True, False])
def test_a_crash_between_the_two_files_leaves_what_is_refused(
    machine: Machine, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    target = tmp_path / "m.engine"
    if there:
        engine_from_onnx(artifact, target, config=NOTHING_KEPT)
    events, replace, fsync = [], Path.replace, os.fsync

    def crash(self: Path, to: Path) -> Path:
        events.append(f"move {to.name}")
        if len(events) > 3:
            raise SystemExit
        return replace(self, to)

    def sync(file: int) -> None:
        events.append("sync")
        fsync(file)

    options = dataclasses.replace(NOTHING_KEPT, profiles=(Profile.parse("2"),))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        patch.setattr(os, "fsync", sync)
        with pytest.raises(SystemExit):
            engine_from_onnx(artifact, target, config=options)
    assert events == ["sync", "sync", "move m.engine.json", "move m.engine"]
    says = "is not the plan that its manifest names" if there else "no such file"
    with pytest.raises(ArtifactError, match=rf"{says}[\s\S]*vitrify build .*m\.engine --rebuild"):
        open_runtime(target)
    assert engine_from_manifest(target).manifest.config == options  # the new ones
    open_runtime(target).close()


def test_rebuilding_for_this_machine_with_the_same_options(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    source = tmp_path / "models" / "m.onnx"
    source.parent.mkdir()
    source.write_bytes(artifact.read_bytes())
    target = tmp_path / "engines" / "m.engine"
    options = BuildConfig(timing_cache="none", profiles=(Profile.parse("1:2:4"),), workspace_mib=64)
    engine_from_onnx(source, target, config=options)
    (tmp_path / "engines").rename(tmp_path / "elsewhere")  # the ONNX file is found from the manifest's own place
    target = tmp_path / "elsewhere" / "m.engine"
    machine.use(FakeCuda(), "10.14.0.1")
    with pytest.raises(EngineError, match="--rebuild"):
        open_runtime(target)
    assert engine_from_manifest(target).manifest.config == options
    with open_runtime(target) as runtime:
        runtime.infer({"image": np.zeros((2, 3, 32, 32), np.float32)})
    source.write_bytes(source.read_bytes() + b"\0")
    with pytest.raises(EngineError, match=r"not there[\s\S]*another file"):
        engine_from_manifest(target)
    source.unlink()
    shutil.copy(artifact, target.parent / "m.onnx")  # or beside the engine
    assert engine_from_manifest(target).manifest.onnx == "m.onnx"
    (target.parent / "m.onnx").unlink()
    with pytest.raises(EngineError, match=r"not there[\s\S]*no .*m\.onnx"):
        engine_from_manifest(target)


def test_a_full_disk_leaves_both_files_as_they_were(
    machine: Machine, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.engine"
    engine_from_onnx(artifact, target, config=NOTHING_KEPT)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_text = Path.write_text

    def full(self: Path, *arguments: object, **options: object) -> int:
        if self.parent == tmp_path and not self.name.endswith(".engine.json"):
            self.touch()
            raise OSError(28, "No space left on device", str(self))
        return write_text(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match="No space left"):
        engine_from_onnx(artifact, target, config=BuildConfig(timing_cache="none", profiles=(Profile.parse("1"),)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert manifest_path(target).exists()


@pytest.mark.parametrize("method", ["read_bytes", "write_bytes"])
def test_kernel_times_that_cannot_be_kept_lose_no_build(
    machine: Machine, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    done = getattr(Path, method)

    def denied(self: Path, *arguments: object) -> object:
        if self.suffix == ".timing":
            raise PermissionError(13, "Permission denied", str(self))
        return done(self, *arguments)

    monkeypatch.setattr(Path, method, denied)
    said: list[str] = []
    progress = Said(said)
    kept = BuildConfig(timing_cache=str(tmp_path / "times"))
    result = engine_from_onnx(artifact, tmp_path / "m.engine", config=kept, progress=progress)
    assert result.path.exists()
    assert any("kernel times" in text for text in said)


def test_kernel_times_are_kept_by_version_and_gpu(machine: Machine, artifact: Path, tmp_path: Path) -> None:
    times = tmp_path / "times"
    kept = BuildConfig(timing_cache=str(times))
    for expected in (b"+", b"++"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=kept)
        (file,) = times.iterdir()
        assert file.name == "10.13.0.35_NVIDIA_H100_80GB_HBM3_sm90.timing"
        assert file.read_bytes() == expected
    file.write_bytes(b"other")
    engine_from_onnx(artifact, tmp_path / "m.engine", config=kept)
    assert file.read_bytes() == b"+"
    machine.use(FakeCuda(), "10.14.0.1")
    engine_from_onnx(artifact, tmp_path / "m.engine", config=kept)
    assert len(list(times.iterdir())) == 2
    engine_from_onnx(artifact, tmp_path / "m.engine", config=BuildConfig(timing_cache="auto"))
    assert (tmp_path / "cache" / "vitrify" / "tensorrt" / "10.14.0.1_NVIDIA_H100_80GB_HBM3_sm90.timing").exists()
