"""`vitrify bench` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import validate

from vitrify.benchmark import read_report, report_schema, running
from vitrify.cli.app import INTERRUPTED, run
from vitrify.cli.bench_tables import _number
from vitrify.timing import Peaks

Captured = pytest.CaptureFixture[str]
FAST = ["--batch", "1", "--rounds", "5", "--runtime", "onnxruntime"]


@pytest.fixture(autouse=True)
def peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        running, "measure_peaks", lambda threads: Peaks(flops_per_s=1e11, bytes_per_s=1e10, threads=threads)
    )


def test_tables_json_and_comparison(artifact: Path, photos: Path, tmp_path: Path, capsys: Captured) -> None:
    old, new, plot = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "bench.png"
    command = ["bench", str(artifact), *FAST, "--images", str(photos / "rose")]
    assert run([*command, "--json", "--output", str(old)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(old.read_text())
    validate(printed, report_schema())
    assert printed["rows"][0]["timing"]["rounds"] == 5
    assert run([*command, "--compare", str(old), "--output", str(new), "--plot", str(plot)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("images/s", "batch 1", "peak MB", "from a file to a label", "now over", "GFLOP/s"):
        assert words in text
    assert text.endswith("nothing to compare: 1 of the contenders has times.")
    assert read_report(new).rows[0].sha256 == read_report(old).rows[0].sha256
    assert plot.exists()


def test_it_ends_with_a_verdict(artifact: Path, tmp_path: Path, capsys: Captured) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(artifact.read_bytes())
    report = tmp_path / "report.json"
    assert run(["bench", str(artifact), str(other), *FAST, "--output", str(report)]) == 0
    last = " ".join(capsys.readouterr().out.split()).rpartition("onnxruntime 1")[2]
    told = read_report(report)
    assert last.endswith(f"{told.verdict}.")
    assert "no difference that this run can tell between" in told.verdict  # five rounds never do
    assert {told.verdicts[0].fastest, told.verdicts[0].than} == {row.name for row in told.rows}


def test_a_damaged_artifact_has_a_row_and_the_exit_code_is_1(artifact: Path, tmp_path: Path, capsys: Captured) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(artifact.read_bytes()[:-5000])
    assert run(["bench", str(artifact), str(damaged), *FAST, "--json"]) == 1
    good, bad = json.loads(capsys.readouterr().out)["rows"]
    assert good["timing"] is not None
    assert bad["timing"] is None
    assert bad["problem"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--runtime", "onnx"], "no runtime is called"),
        (["--batch", "0"], "positive"),
        (["--plot", "bench.jpg"], "PNG"),
        (["--compare", "gone.json"], "no report"),
        (["--images=-"], "standard input"),
        (["--images", "gone.jpg"], "none of the images can be read"),
    ],
)
def test_mistakes(artifact: Path, extra: list[str], message: str, capsys: Captured) -> None:
    assert run(["bench", str(artifact), *extra]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_ctrl_c_leaves_nothing(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "take_turns", interrupted)
    output = tmp_path / "bench.json"
    assert (
        run(["bench", str(artifact), *FAST, "--output", str(output), "--plot", str(tmp_path / "p.png")]) == INTERRUPTED
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "told"), [(0.02434, "0.0243"), (3.4567, "3.46"), (99.96, "100"), (3021.4, "3021"), (37770.0, "37770")]
)
def test_numbers_are_never_in_powers_of_ten(value: float, told: str) -> None:
    assert _number(value) == told
