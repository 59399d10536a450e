"""A process of another Python that a case leads step by step: a JSON command a line, a JSON answer a line."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Worker:
    """The driver's end.

    Args:
        script: What runs there.
        python: Its interpreter.
        environment: Its variables.
    """

    def __init__(self, script: Path, python: str, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended: {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def serve(bench: object) -> None:
    """The worker's end: `{"do": "open", …}` calls `bench.open(…)`, until standard input ends."""
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(bench, command.pop("do"))(**command)
        except Exception as error:  # the driver shows it and goes on
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--python` and `--environment`: where a case runs what another Python than its own has."""
    parser.add_argument("--python", default=sys.executable, help="the Python that has TensorRT")
    parser.add_argument(
        "--environment", type=Path, help="a shell file to source for that Python, and for programs that the case starts"
    )


def variables(arguments: argparse.Namespace) -> dict[str, str]:
    """The environment of what is started: this process's, and what `--environment` exports."""
    return {**os.environ, **sourced(arguments.environment)}


def sourced(path: Path | None) -> dict[str, str]:
    """What sourcing a shell file exports."""
    if path is None:
        return {}
    source = ["/bin/bash", "-c", '. "$0" && env -0', str(path)]
    shown = subprocess.run(source, capture_output=True, text=True, check=True)
    return dict(entry.split("=", 1) for entry in shown.stdout.split("\0") if "=" in entry)
