"""`bench` with engines, over the stand-ins for TensorRT and the GPU."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate
from PIL import Image

from tests.benchmark.test_bench import PEAKS, QUICK
from tests.pixels.test_preprocess import picture
from tests.tensorrt.conftest import Machine, machine, new_engine
from vitrify.benchmark import (
    BenchReport,
    LoadCost,
    bench,
    bench_picture,
    loading,
    read_report,
    report_schema,
    running,
    write_report,
)
from vitrify.cli.bench_tables import bench_tables
from vitrify.errors import RuntimeFailureError, VitrifyError
from vitrify.spec import Precision

__all__ = ["machine", "new_engine"]  # fixtures


def load_here(path: Path, row: Any, precision: Precision, *, batch: int, threads: int | None, like: Any) -> LoadCost:
    """As `measure_load`, in this process: another one has no stand-ins."""
    asked = {"path": str(path), "module": row.target, "precision": precision, "batch": batch, "threads": threads}
    try:
        return loading.run_here({**asked, "like": like.to_json() if like else None})
    except VitrifyError as error:
        raise RuntimeFailureError(error.what, got=error.got) from error


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "measure_load", load_here)
    monkeypatch.setattr(running, "measure_peaks", lambda _threads: PEAKS)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("a.jpg", "b.png", "c.tif")]  # the native core does not read the last
    for seed, path in enumerate(paths):
        Image.fromarray(picture(60 + seed, 50, seed=seed)).save(path)
    return paths


def test_memory_stages_and_reference(machine: Machine, artifact: Path, new_engine: Path, pictures: list[Path]) -> None:
    config = dataclasses.replace(QUICK, runtimes=("tensorrt", "onnxruntime"), precisions=("fp32",), batches=(1, 4))
    report = bench([new_engine, artifact], images=pictures, config=config)
    engine, onnx, *_ = report.rows
    assert report.passed
    assert report.reference == "tiny.onnx in onnxruntime fp32"  # although the engine was named first
    assert engine.load is not None
    assert onnx.load is not None
    # Inputs and outputs of a batch of 16 on the device and, in this stand-in, page-locked beside it; and 4 KiB scratch.
    assert engine.load.device_bytes == 2 * 16 * 4 * (3 * 32 * 32 + 6) + 4096
    assert onnx.load.device_bytes is None
    assert engine.roofline is None
    assert report.machine.accelerators == ("NVIDIA H100 80GB HBM3",)
    assert report.machine.versions["CUDA of the driver"] == "13.0"
    assert [(stage.name, stage.pixels) for stage in report.stages] == [
        ("tiny.engine tensorrt fp32", "gpu"), ("tiny.onnx onnxruntime fp32", "cpu"),
    ]  # fmt: skip
    for stage in report.stages:
        assert min(stage.read_ms, stage.preprocess_ms, stage.inference_ms, stage.post_ms) > 0
        assert stage.total_ms >= max(stage.preprocess_ms, stage.inference_ms)
    assert machine.launcher.launched == [1] * (len(pictures) + 2 + len(pictures))  # compared, warmed up, timed
    assert not machine.cuda.memory
    written = new_engine.parent / "bench.json"
    write_report(report, written)
    assert read_report(written) == report
    validate(json.loads(written.read_text()), report_schema())
    bench_picture(report, new_engine.parent / "bench.png")
    assert "GPU MB" in shown(report)


def test_stages_only_where_the_gpus_pixels_are_right(
    machine: Machine, artifact: Path, new_engine: Path, pictures: list[Path]
) -> None:
    machine.launcher.launch = lambda function, *, stream, **_: machine.cuda.give(stream, lambda: None)  # type: ignore[method-assign]
    config = dataclasses.replace(QUICK, runtimes=("tensorrt", "onnxruntime"), precisions=("fp32",))
    for address in [*machine.cuda.memory]:
        machine.cuda.free(address)
    report = bench([artifact, new_engine], images=pictures, config=config)
    assert report.passed  # of tensors the engine makes the right logits
    assert [stage.name for stage in report.stages] == ["tiny.onnx onnxruntime fp32"]
    assert any("no stages of tiny.engine tensorrt fp32" in note for note in report.notes)


def test_an_engine_that_fails_or_does_not_fit_has_a_row(machine: Machine, artifact: Path, new_engine: Path) -> None:
    machine.trt.refuse_batch = "an illegal memory access was encountered"
    report = bench([artifact, new_engine], config=dataclasses.replace(QUICK, runtimes=("tensorrt", "onnxruntime")))
    row = next(row for row in report.rows if row.runtime == "tensorrt")
    assert "illegal memory access" in row.problem
    assert row.timing is None
    assert not report.passed
    machine.trt.refuse_batch = ""
    machine.cuda.free_bytes = 1000
    report = bench([artifact, new_engine], config=dataclasses.replace(QUICK, runtimes=("tensorrt", "onnxruntime")))
    row = next(row for row in report.rows if row.runtime == "tensorrt")
    assert "out of memory" in row.problem
    assert next(row for row in report.rows if row.runtime == "onnxruntime").timing is not None


def shown(report: BenchReport) -> str:
    """The tables, as wide as they want to be."""
    from rich.console import Console

    console = Console(width=250, file=io.StringIO())
    with console.capture() as text:
        for table in bench_tables(report):
            console.print(table)
    return text.get()


def test_images_that_the_gpu_prepares_are_compared(machine: Machine, new_engine: Path) -> None:
    from vitrify.benchmark.stages import wrongly_prepared
    from vitrify.runtimes.tensorrt import TensorRtRuntime

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeFailureError("the kernel is refused")

    path = new_engine.parent / "one.jpg"
    Image.fromarray(picture(50, 70)).save(path)
    with TensorRtRuntime(new_engine) as runtime:
        assert wrongly_prepared(runtime, path) == ""
        machine.cuda.refuse_capture = machine.trt.refuse_batch = "no"
        with pytest.raises(RuntimeFailureError):  # tensors fail too: that is no matter of pixels
            wrongly_prepared(runtime, path)
    machine.cuda.refuse_capture = machine.trt.refuse_batch = ""
    with TensorRtRuntime(new_engine) as runtime, pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine.launcher, "launch", refuse)
        assert wrongly_prepared(runtime, path) == "the kernel is refused"
