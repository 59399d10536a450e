"""`vitrify quantize`: its report, and that a report is left whatever happens."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.precision.digits import Digits
from tests.workflows.quantize.quantizing import a_search
from vitrify.api import _seconds as seconds_of
from vitrify.artifacts import read_spec
from vitrify.cli.app import INTERRUPTED, run
from vitrify.cli.tables import search_tables
from vitrify.errors import ImageError, StorageError
from vitrify.spec import Attempt, PrecisionSearch
from vitrify.spec.codec import decode
from vitrify.workflows.quantize import report, workflow
from vitrify.workflows.quantize.judge import Judge


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
    monkeypatch.setattr(report, "atomic_write", full_disk)
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, INTERRUPTED)])
def test_a_search_that_is_stopped_leaves_its_report_and_nothing_else(
    trained: Digits, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    temporary, output = tmp_path / "temporary", tmp_path / "output"
    temporary.mkdir()
    # In a process of its own, as a user's is: the signal arrives while a candidate is made or judged.
    with subprocess.Popen(
        [sys.executable, "-m", "vitrify", *command(trained, output / "out.onnx")],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary)},
    ) as search:  # fmt: skip
        assert search.stderr is not None
        assert any(line.startswith("trying") for line in search.stderr)
        search.send_signal(number)
        search.stderr.read()
    assert search.returncode == code
    assert [path.name for path in temporary.iterdir() if path.name != ".ses"] == []  # which is ONNX Runtime's own
    assert [path.name for path in output.iterdir()] == ["out-report"]
    found = decode(PrecisionSearch, json.loads((output / "out-report" / "search.json").read_text()))
    assert found.stopped == "interrupted"
    assert found.taken is None
    assert found.attempts[0].recipe == "source"
    assert "interrupted" in (output / "out-report" / "report.md").read_text()


@pytest.mark.parametrize(("time", "attempted"), [("0.001s", []), ("1h", ["source", "int8, mse ranges, smoothed"])])
def test_the_time_of_a_search(
    trained: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str], time: str, attempted: list[str]
) -> None:
    output = tmp_path / "out.onnx"
    code = run([*command(trained, output), "--time", time, "--min-agreement", "98"])
    said = capsys.readouterr()
    assert attempts(tmp_path / "out-report")[:2] == attempted
    assert output.exists() == (code == 0) == bool(attempted)
    if not attempted:
        assert code == 1
        assert "held its gates within 0 s; nothing was written" in said.err
        assert "none was tried: its 0 s were over" in said.err
        assert "more --time" in said.err
        assert "Note: the search ended early: its 0 s were over." in (tmp_path / "out-report" / "report.md").read_text()
        assert [path.name for path in tmp_path.iterdir()] == ["out-report"]


@pytest.mark.parametrize("time", ["soon", "0", "-5", "5 minutes", ""])
def test_what_is_no_time(trained: Digits, tmp_path: Path, time: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command(trained, tmp_path / "out.onnx"), f"--time={time}"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_durations() -> None:
    given = ["300", "90s", "5m", "1.5h", None]
    assert [seconds_of(text) for text in given] == [300, 90, 300, 5400, None]


def test_json_is_one_document_where_nothing_held(
    trained: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*command(trained, tmp_path / "out.onnx"), "--to", "fp16", "--no-fallback", "--time", "0.001", "--json"]
    assert run(given) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["path"] is None
    assert "error: no lower precision" in told.err


def test_an_image_that_cannot_be_read_leaves_no_report(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: Any) -> None:
        raise ImageError("damaged")

    monkeypatch.setattr(Judge, "judge_sources", damaged)
    assert run(command(trained, tmp_path / "out.onnx")) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_figures_of_a_search_fit_narrow_terminals(columns: int) -> None:
    recipe = "int8, mse ranges, smoothed, blocks.3, blocks.7, blocks.11 kept"
    figures: dict[str, Any] = {
        "top1": 0.98765,
        "agreement": 1.0,
        "relative_error": 0.000123,
        "latency_ms": 123.4,
        "rival_ms": 234.5,
    }
    row = Attempt(recipe=recipe, precision="int8", speedup=1.90, speedup_low=1.85, passed=True, **figures)
    console = Console(width=columns, file=io.StringIO())
    with console.capture() as shown:
        console.print(*search_tables(a_search(row, row, taken=0)), sep="\n")
    lines = shown.get().splitlines()
    assert any("123, 234  1.90 (1.85)" in line for line in lines)
    assert max(map(len, lines)) <= columns
    whole = " ".join(" ".join(lines).split())
    assert f"#1 {recipe}: taken" in whole
    assert f"#2 {recipe}: held, and was kept in reserve" in whole


def test_a_report_that_cannot_be_written_hides_nothing(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    output = tmp_path / "out.onnx"
    assert run([*command(trained, output), "--report", str(tmp_path / "file")]) == 2
    assert "report.md" in capsys.readouterr().err
    assert not output.exists()  # told before the search
    monkeypatch.setattr(report, "atomic_write", full_disk)
    assert run(command(trained, output)) == 2
    said = capsys.readouterr()
    assert "taken" in said.out
    assert "wrote" in said.out
    assert "No space left" in said.err
    assert output.exists()
