"""Names that a terminal would obey or a spreadsheet compute, and faults of vitrify's own."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.text import Text

from vitrify.classifier import Failure, LabelScore, Prediction
from vitrify.cli.answers import AnswerWriter, Format
from vitrify.cli.app import FAULT, run
from vitrify.cli.tables import table
from vitrify.console import SafeConsole, print_error
from vitrify.errors import ImageError, VitrifyError

Captured = pytest.CaptureFixture[str]

NAME = "a\x1b[2J\x9b1m\u202egpj.\nhint: rm -rf\udce9"
SHOWN = r"a\x1b[2J\x9b1m\u202egpj.\nhint: rm -rf\udce9"


def answers(label: str) -> list[Prediction | Failure]:
    top = (LabelScore(label=label, index=0, probability=0.75), LabelScore(label="b", index=1, probability=0.25))
    failure = Failure(source=NAME, error=ImageError(f"{NAME}: damaged", got=NAME))
    return [Prediction(source=NAME, top=top, logits=np.zeros(2, np.float32)), failure]


def written(format: Format, label: str, capsys: Captured) -> str:
    writer = AnswerWriter(format)
    for answer in answers(label):
        writer.write(answer)
    writer.finish()
    return capsys.readouterr().out


@pytest.mark.parametrize("format", ["table", "jsonl", "csv"])
def test_no_format_has_anything_that_a_terminal_obeys(format: Format, capsys: Captured) -> None:
    out = written(format, NAME, capsys)
    out.encode()
    assert all(line.isprintable() for line in out.splitlines())
    assert not any(line.startswith("hint") for line in out.splitlines())


def test_json_lines_have_names_as_they_are(capsys: Captured) -> None:
    first, second = map(json.loads, written("jsonl", NAME, capsys).splitlines())
    assert first["image"] == second["image"] == first["label"] == NAME


def test_csv_has_no_formula_and_its_numbers_are_numbers(capsys: Captured) -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", "=HYPERLINK(1)", capsys))))
    assert rows[0]["label"] == "'=HYPERLINK(1)"
    assert rows[0]["top"].startswith("'=")
    assert float(rows[0]["probability"]) == 0.75
    assert rows[1]["image"] == SHOWN


def test_a_console_shows_whatever_comes_to_it() -> None:
    stream = io.StringIO()
    console = SafeConsole(file=stream, markup=False, highlight=False, emoji=False, width=200)
    rows = table("name", "value")
    rows.add_row(NAME, Text(NAME))
    for shown in (NAME, Text(NAME, style="red"), rows, ":smile: [bold]x[/bold]"):
        console.print(shown)
    text = stream.getvalue()
    assert not set(text) & {"\x1b", "\x9b", "\u202e", "\udce9"}
    assert SHOWN in text
    assert ":smile: [bold]x[/bold]" in text


def test_no_value_of_an_error_looks_like_another_line_of_it(capsys: Captured) -> None:
    print_error(VitrifyError("what", got=NAME, expected="this\nerror: that", hint="real"))
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith(("hint", "error"))] == ["error: what", "hint: real"]


def test_a_file_whose_name_is_no_utf8_is_classified(artifact: Path, photos: Path, tmp_path: Path) -> None:
    photo = next((photos / "rose").iterdir())
    name = b"\x1b[31m\xe9.png"
    (tmp_path / os.fsdecode(name)).write_bytes(photo.read_bytes())
    command = [sys.executable, "-m", "vitrify", "predict", str(artifact), str(tmp_path), "--format"]
    for format in ("table", "jsonl", "csv"):
        for encoding in ("utf-8", "ascii"):
            environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
            done = subprocess.run([*command, format], capture_output=True, env=environment, check=True)
            assert b"\x1b" not in done.stdout
            if format == "jsonl":
                assert json.loads(done.stdout)["image"] == str(tmp_path / os.fsdecode(name))


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of its own\x1b[31m\nmaking")

    monkeypatch.setattr("vitrify.inspection.diagnose", fail)


@pytest.mark.usefixtures("fault")
def test_a_fault_of_vitrifys_own_is_one_line_and_exits_with_3(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VITRIFY_TRACEBACK", raising=False)
    assert run(["doctor"]) == FAULT == 3
    first, hint = capsys.readouterr().err.splitlines()
    assert first == r"error: vitrify failed: ZeroDivisionError: of its own\x1b[31m making"
    assert "VITRIFY_TRACEBACK=1" in hint
    assert run(["doctor", "--json"]) == FAULT
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "ZeroDivisionError"
    monkeypatch.setenv("VITRIFY_TRACEBACK", "1")
    assert run(["doctor"]) == FAULT
    assert "Traceback" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_no_fault(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "secret\x1b.json")

    monkeypatch.setattr("vitrify.inspection.diagnose", deny)
    assert run(["doctor"]) == 2
    assert r"cannot read or write secret\x1b.json" in capsys.readouterr().err
