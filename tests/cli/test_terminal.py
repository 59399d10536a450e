"""What is printed where nobody's terminal says how wide it is, and pictures that cannot be drawn."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vitrify import console
from vitrify.cli.app import run
from vitrify.console import TerminalProgress
from vitrify.progress import Work


@pytest.mark.parametrize(
    "command",
    [
        ["bench", "missing.onnx", "--plot", "bench.png"],
        ["verify", "missing.onnx", "--layers", "--plot", "drift.png"],
        ["eval", "missing.onnx", "missing", "--confusion", "confusion.png"],
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec

    def without_matplotlib(name: str, *rest: Any) -> Any:
        return None if name == "matplotlib" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_matplotlib)
    assert run(command) == 2
    told = capsys.readouterr().err
    assert "matplotlib is not installed" in told
    assert 'pip install "vitrify[train]"' in told
    assert "missing.onnx" not in told, "the artifact was looked for first"


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_whole_job_stands_above_its_steps_in_one_line(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Console(file=io.StringIO(), force_terminal=True, width=columns, color_system=None)
    monkeypatch.setattr(console, "err", told)
    monkeypatch.setattr(console, "BAR_DELAY_S", -1.0)
    progress, work = TerminalProgress(), Work("candidate 2 of up to 11", limit_s=3600)
    with progress.watch(work):
        work.begin(10, after=30)
        work.advance(10)
        for _ in progress.track(range(2), label="int8, mse ranges, smoothed, blocks.11 kept, openvino"):
            display = progress._display
            assert display is not None
            plain = Console(file=io.StringIO(), width=columns)  # without the display's own lines
            with plain.capture() as shown:
                plain.print(display.get_renderable())
            whole, step = shown.get().splitlines()
            assert whole.startswith("candidate 2 of up to 11"[: 9 if columns == 40 else None])
            assert "25%" in whole
            assert "≤ " in whole
            assert step.startswith("int8, mse")
            assert "/2" in step
            assert max(len(whole), len(step)) <= columns
            assert ("…" in step) == (columns < 120)
    assert progress._display is None


@pytest.mark.parametrize(("columns", "whole"), [(None, True), ("80", False)])
def test_a_table_in_a_pipe_is_not_cut_at_80_columns(
    artifact: Path, tmp_path: Path, columns: str | None, whole: bool
) -> None:
    """The name is 100 characters long: on 80 columns it has to break."""
    name = "n" * 95 + ".onnx"
    (tmp_path / name).write_bytes(artifact.read_bytes())
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    if columns is not None:
        environment["COLUMNS"] = columns
    command = [sys.executable, "-m", "vitrify", "bench", name, "--rounds", "1", "--batch", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    assert (name in done.stdout) == whole
