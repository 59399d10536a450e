"""Everything that the commands do, from Python: one definition of names and defaults, and the whole chain."""

from __future__ import annotations

import importlib
import inspect
import io
import logging
import pydoc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vitrify
from tests.conftest import LABELS
from tests.precision.digits import Digits
from vitrify.benchmark import running
from vitrify.cli.app import COMMANDS
from vitrify.errors import ImageError, OptionError
from vitrify.timing import Peaks
from vitrify.training.config import TrainConfig
from vitrify.verification import LayerReport
from vitrify.workflows.verify import VerifyResult

FUNCTIONS = ("train", "export", "quantize", "build", "verify", "evaluate", "bench")


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


def command(name: str) -> Callable[..., Any]:
    module, _, function = COMMANDS[{"evaluate": "eval"}.get(name, name)].partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"vitrify.cli.{module}"), function)
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_command_and_its_function_have_the_same_options_and_defaults(name: str) -> None:
    python, line = defaults(getattr(vitrify, name)), defaults(command(name))
    assert python.pop("progress") is False
    assert line.pop("json") is False
    line.pop("compare", None)  # prints a report beside an earlier one
    assert line == python


def test_predict_has_the_classifiers_options_and_defaults() -> None:
    of_class, of_command = defaults(vitrify.Classifier), defaults(command("predict"))
    shared = of_class.keys() & of_command.keys()
    assert shared == of_class.keys() - {"path", "options", "like"}
    assert {name: of_class[name] for name in shared} == {name: of_command[name] for name in shared}
    assert {"runtime", "precision", "batch_size", "threads", "self_test"} <= shared & defaults(vitrify.evaluate).keys()
    for name in shared & defaults(vitrify.evaluate).keys():
        assert defaults(vitrify.evaluate)[name] == of_class[name]


def test_train_has_every_choice_of_a_run() -> None:
    names = list(defaults(vitrify.train))
    assert names == ["data", "output", *inspect.signature(TrainConfig).parameters, "progress"]
    with pytest.raises(TypeError, match=r"train\(\) got an unexpected keyword argument 'epoch'"):
        vitrify.train("data", output="run", epoch=3)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_described(name: str) -> None:
    text = inspect.getdoc(getattr(vitrify, name)) or ""
    for parameter in defaults(getattr(vitrify, name)):
        assert f"\n    {parameter}: " in text, parameter


def test_dir_is_what_is_public() -> None:
    assert dir(vitrify) == vitrify.__all__
    shown = pydoc.plain(pydoc.render_doc(vitrify))
    for name in FUNCTIONS:
        assert f"    {name}(" in shown
    assert "class Classifier(" in shown


def test_a_function_stays_one_whatever_is_imported_first() -> None:
    code = (
        "import vitrify.workflows.verify, vitrify.verification, vitrify.benchmark, vitrify.workflows.train\n"
        "from vitrify import bench, train, verify\n"
        "import vitrify\n"
        "assert all(callable(f) for f in (bench, train, verify, vitrify.verify, vitrify.quantize))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_whole_chain(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="vitrify")
    run = vitrify.train(
        photos,
        output=tmp_path / "run",
        init="none",
        model_kwargs={"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2},
        epochs=1,
        batch_size=8,
        workers=0,
    )
    assert run.best.exists()
    assert run.to_dict()["labels"] == list(LABELS)
    made = vitrify.export(run.best, output=tmp_path / "m.onnx", images=str(photos), max_images=4)
    assert made.path == tmp_path / "m.onnx"
    assert "exporting with dynamo" in caplog.messages
    checked = vitrify.verify(made.path, runtime="onnxruntime")
    assert isinstance(checked, VerifyResult)
    assert all(check.passed for check in checked.verification.checks)
    report = vitrify.verify(made.path, layers=True)
    assert isinstance(report, LayerReport)
    assert report.passed
    measured = vitrify.evaluate(made.path, photos, runtime="onnxruntime")
    assert measured.count == 40
    assert measured.to_dict()["top1"] == measured.top1
    with pytest.raises(vitrify.GateError, match="below min_top1") as refused:
        vitrify.evaluate(made.path, photos, runtime="onnxruntime", min_top1=1.0)
    assert getattr(refused.value.result, "count", None) == 40


def test_quantize_and_what_it_measured_where_nothing_held(trained: Digits, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"calibration": trained.calibration, "data": trained.folder, "runtime": "onnxruntime"}
    made = vitrify.quantize(trained.onnx, output=tmp_path / "q.onnx", judge_speed=False, **chosen)
    assert made.path == tmp_path / "q.onnx"
    assert (tmp_path / "q-report" / "report.md").exists()
    with pytest.raises(vitrify.GateError) as refused:
        vitrify.quantize(trained.onnx, output=tmp_path / "n.onnx", min_speedup=1000, fallback=False, **chosen)
    assert getattr(refused.value.result, "path", 0) is None
    assert not (tmp_path / "n.onnx").exists()


def test_bench(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = Peaks(flops_per_s=1e11, bytes_per_s=1e10, threads=1)
    monkeypatch.setattr(running, "measure_peaks", lambda threads: peaks)
    report = vitrify.bench(artifact, batch=1, rounds=5, runtime="onnxruntime", output=tmp_path / "b.json")
    assert report.passed
    assert [row.batch for row in report.rows] == [1]
    assert (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: vitrify.export("m.pth", output="m.onnx", exporter="tf"), "exporter has an unknown value"),  # type: ignore[arg-type]
        (lambda: vitrify.quantize("m.onnx", output="q.onnx", calibration=(), to="int4"), "to has an unknown value"),  # type: ignore[arg-type]
        (lambda: vitrify.verify("m.onnx", tolerance=0.1), "tolerance"),
        (lambda: vitrify.build("m.onnx", rebuild=True, output="m.engine"), "rebuild"),
        (lambda: vitrify.build("m.onnx"), "name"),
        (lambda: vitrify.bench("m.onnx", precision="int4"), "precision has an unknown value"),
        (lambda: vitrify.bench("m.onnx", images=b"jpeg"), "file"),
    ],
)
def test_a_mistake_is_an_option_error(call: Callable[[], object], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        call()


def test_progress_is_told_and_silent_by_default(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vitrify.export(checkpoint, output=tmp_path / "a.onnx")
    assert capsys.readouterr() == ("", "")
    vitrify.export(checkpoint, output=tmp_path / "b.onnx", progress=True)
    assert "exporting with dynamo" in capsys.readouterr().err


def test_open_files_are_images_to_every_function(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    opened = io.BytesIO(next(photos.rglob("*.jpg")).read_bytes())
    made = vitrify.export(checkpoint, output=tmp_path / "m.onnx", images=[opened])
    assert any(check.inputs == "images" for check in made.verification.checks)
    with pytest.raises(ImageError, match="rewind"):
        vitrify.export(checkpoint, output=tmp_path / "m.onnx", images=[opened])
