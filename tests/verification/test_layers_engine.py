"""An engine part by part: built again with its parts on a stand-in for TensorRT, and refused without a GPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tensorrt.conftest import Machine, machine
from tests.verification.changed import PARTS, firsts
from vitrify.artifacts import BuildConfig, manifest_path
from vitrify.errors import DeviceError, EngineError
from vitrify.verification import compare_layers
from vitrify.workflows.build import engine_from_onnx

__all__ = ["machine"]


def test_an_engine_is_built_again_with_its_parts(
    machine: Machine, artifact: Path, checkpoint: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copy(artifact, tmp_path / "m.onnx"))
    engine = engine_from_onnx(source, tmp_path / "m.engine", config=BuildConfig(timing_cache="none")).path
    before = engine.read_bytes(), manifest_path(engine).read_bytes()
    for reference in (None, checkpoint):
        report = compare_layers(engine, reference=reference)
        assert report.passed
        assert [part.part for part in report.comparisons[0].parts] == PARTS
        assert report.comparisons[0].runtime == "tensorrt"
    machine.trt.error = 0.5
    assert firsts(compare_layers(engine)) == {"patch_embed"}
    assert (engine.read_bytes(), manifest_path(engine).read_bytes()) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "m.engine",
        "m.engine.json",
        "m.onnx",
    ]
    source.unlink()
    with pytest.raises(EngineError, match="ONNX file"):
        compare_layers(engine, reference=checkpoint)


def test_an_engine_without_a_gpu(
    machine: Machine, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_from_onnx(artifact, tmp_path / "m.engine", config=BuildConfig(timing_cache="none")).path

    def absent() -> None:
        raise DeviceError("there is no NVIDIA GPU that can be used", hint="use the ONNX file")

    monkeypatch.setattr("vitrify.runtimes.tensorrt.cuda", absent)
    with pytest.raises(DeviceError, match="no NVIDIA GPU") as caught:
        compare_layers(engine, reference=artifact)
    assert caught.value.hint
