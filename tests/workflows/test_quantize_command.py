"""`vitrify quantize`: its report, and that a report is left whatever happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.precision.digits import Digits
from vitrify.cli.app import INTERRUPTED, run
from vitrify.errors import StorageError
from vitrify.spec import PrecisionSearch, read_spec
from vitrify.spec.codec import decode
from vitrify.workflows import precision_report
from vitrify.workflows import quantize as workflow
from vitrify.workflows.judging import Judge


def command(trained: Digits, output: Path) -> list[str]:
    images = str(trained.folder)
    given = ["--calibration", images, "--data", images, "--no-judge-speed", "--runtime", "onnxruntime"]
    return ["quantize", str(trained.onnx), "-o", str(output), *given]


def test_the_command_writes_a_report(trained: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "digits.int8.onnx"
    images = str(trained.folder)
    command = ["quantize", str(trained.onnx), "-o", str(output), "--calibration", images, "--data", images]
    assert run([*command, "--no-judge-speed"]) == 0
    said = capsys.readouterr().out
    assert "taken" in said
    assert "digits.int8.onnx" in said
    report = tmp_path / "digits.int8-report"
    search = decode(PrecisionSearch, json.loads((report / "search.json").read_text()))
    assert search == read_spec(output).precision_search
    shown = (report / "report.md").read_text()
    assert "| int8, mse ranges, smoothed |" in shown
    assert "Note: 256 of the 300 judged images were calibrated on too, which flatters." in shown
    assert "note: 256 of the 300" in said
    assert (report / "attempts.png").read_bytes().startswith(b"\x89PNG")
    assert run([*command, "--no-judge-speed", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["search"]["target"] == "int8"
    assert "256 of the 300" in told["notes"][0]
    output.unlink()
    assert run([*command, "--min-speedup", "1000", "--no-fallback"]) == 1
    assert "deploy" in capsys.readouterr().err
    assert not output.exists()
    assert run([*command, "--to", "int8", "--narrow-io"]) == 2
    assert run([*command, "--to", "fp16", "--no-smooth"]) == 2
    assert run([*command, "--keep", "blocks.9"]) == 2
    assert run([*command[:4], "--calibration", str(tmp_path / "nothing")]) == 2


def full_disk(*_: Any, **__: Any) -> None:
    raise StorageError("cannot write it", got="No space left on device")


def attempts(folder: Path) -> list[str]:
    search = decode(PrecisionSearch, json.loads((folder / "search.json").read_text()))
    return [attempt.recipe for attempt in search.attempts]


def test_the_report_survives_an_artifact_that_cannot_be_written(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workflow, "place_artifact", full_disk)
    assert run(command(trained, tmp_path / "out.onnx")) == 2
    assert "No space left" in capsys.readouterr().err
    assert attempts(tmp_path / "out-report") == ["source", "int8, mse ranges, smoothed"]
    assert "no artifact was written: cannot write it" in (tmp_path / "out-report" / "report.md").read_text()
    monkeypatch.setattr(precision_report, "atomic_write", full_disk)
    assert run(command(trained, tmp_path / "out.onnx")) == 2
    assert "int8, mse" in capsys.readouterr().err


def test_the_report_survives_ctrl_c(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Judge, "judge", interrupted)
    assert run(command(trained, tmp_path / "out.onnx")) == INTERRUPTED
    assert "interrupted" in capsys.readouterr().err
    assert attempts(tmp_path / "out-report") == ["source"]
    assert "no artifact was written: interrupted" in (tmp_path / "out-report" / "report.md").read_text()


def test_a_report_that_cannot_be_written_hides_nothing(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    output = tmp_path / "out.onnx"
    assert run([*command(trained, output), "--report", str(tmp_path / "file")]) == 2
    assert "report.md" in capsys.readouterr().err
    assert not output.exists()  # told before the search
    monkeypatch.setattr(precision_report, "atomic_write", full_disk)
    assert run(command(trained, output)) == 2
    said = capsys.readouterr()
    assert "taken" in said.out
    assert "wrote" in said.out
    assert "No space left" in said.err
    assert output.exists()
