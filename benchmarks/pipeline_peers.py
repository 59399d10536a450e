"""The peers of `benchmarks/pipeline.py` that run in processes of their own: optimum, benchmark_app and vit.cpp.

Each is a contender: it tells how far its answer is from the truth, and how long one call took by its own clock. A peer
that cannot be had is a sentence that says why.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from foreign_forms import ggml_file
from harness import ROOT, cores
from worker_process import Worker

from vitrify.artifacts import read_spec

Array = npt.NDArray[np.float64]


class Contender(Protocol):
    """One way from a file to a label.

    Attributes:
        note: What a reader of its row has to know.
    """

    note: str

    def compare(self, file: Path, truth: Array) -> dict[str, Any]:
        """`relative_error` and `same_label` of its answer to a file, where the right logits are `[classes]`."""

    def seconds(self, file: Path) -> float:
        """How long one call takes, after one that is not timed."""


def compared(logits: npt.ArrayLike, truth: Array) -> dict[str, Any]:
    """Root mean square of the difference over that of the truth, and whether the best class is the same."""
    found = np.asarray(logits, np.float64).reshape(-1)
    error = float(np.sqrt(np.square(found - truth).mean() / np.square(truth).mean()))
    return {"relative_error": f"{error:.1g}", "same_label": int(found.argmax()) == int(truth.argmax())}


class Optimum:
    """optimum's `ORTModelForImageClassification` after transformers' image processor, in `.venv-optimum`."""

    def __init__(self, folder: Path, *, fast: bool) -> None:
        python = ROOT / ".venv-optimum" / "bin" / "python"
        if not python.exists():
            raise FileNotFoundError("requirements/bench-optimum.txt cannot be installed here")
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        self._worker = Worker(Path(__file__).with_name("pipeline_worker.py"), str(python), environment)
        opened = self._worker.ask(do="open", folder=str(folder), fast=fast)
        self.note, self.versions = opened["processor"], opened["versions"]

    def compare(self, file: Path, truth: Array) -> dict[str, Any]:
        """By its logits."""
        return compared(self._worker.ask(do="logits", file=str(file))["logits"], truth)

    def seconds(self, file: Path) -> float:
        """By the worker's clock."""
        return float(self._worker.ask(do="time", file=str(file))["seconds"])


class BenchmarkApp:
    """OpenVINO's own program, on the same file: inference alone."""

    note = "inference alone, of random numbers: no file is read, and no answer compared"

    def __init__(self, model: Path, side: int) -> None:
        program = Path(sys.executable).with_name("benchmark_app")
        self._command = [str(program), "-m", str(model), "-d", "CPU", "-infer_precision", "f32"]
        self._command += ["-shape", f"[1,3,{side},{side}]", "-hint", "latency", "-api", "sync", "-niter", "5"]

    def compare(self, file: Path, truth: Array) -> dict[str, Any]:
        """Nothing: it shows no answer."""
        del file, truth
        return {"relative_error": "", "same_label": ""}

    def seconds(self, file: Path) -> float:
        """The median that it prints."""
        del file
        text = printed(self._command)
        found = re.search(r"Median:\s+([\d.]+) (us|ms)", text)
        if not found:
            raise RuntimeError("benchmark_app printed no median")
        return float(found[1]) * (1e-6 if found[2] == "us" else 1e-3)


class VitCpp:
    """vit.cpp's program, a process for each file; `VIT_CPP` names it. It prints probabilities to 0.01."""

    def __init__(self, path: Path, square: Path, logits: Array) -> None:
        """On `square`, a picture that needs no resize and whose logits are given, its answer has to be right."""
        if "VIT_CPP" not in os.environ:
            raise FileNotFoundError("not built here, and VIT_CPP names no program")
        labels = read_spec(path).labels
        self._labels = labels
        self._command = [
            os.environ["VIT_CPP"],
            "-t",
            str(cores()),
            "-k",
            str(len(labels)),
            "-m",
            str(ggml_file(path)),
            "-i",
        ]
        error = float(np.abs(self._probabilities(square) - softmax(logits)).max())
        if error > 0.02:
            raise RuntimeError(f"its probabilities of a picture that needs no resize are off by {error:.2g}")
        self.note = (
            "float16; processing time, without loading the model, of the only image of its process; squeezes the whole "
            "picture into a square without antialiasing; error of probabilities, which for a picture that needs no "
            f"resize are off by {error:.1g}"
        )

    def _probabilities(self, file: Path) -> Array:
        text = printed([*self._command, str(file)])
        found = {label: float(value) for label, value in re.findall(r"^ > (.*) : ([\d.]+)$", text, re.MULTILINE)}
        return np.array([found[label] for label in self._labels])

    def compare(self, file: Path, truth: Array) -> dict[str, Any]:
        """By its probabilities."""
        return compared(self._probabilities(file), softmax(truth))

    def seconds(self, file: Path) -> float:
        """What it calls processing: decoding, resizing and inference."""
        text = printed([*self._command, str(file)])
        found = re.search(r"processing time = +([\d.]+) ms", text)
        if not found:
            raise RuntimeError("vit.cpp printed no time")
        return float(found[1]) / 1e3


def softmax(logits: Array) -> Array:
    """Probabilities."""
    powers = np.exp(logits - logits.max())
    result: Array = powers / powers.sum()
    return result


def printed(command: list[str]) -> str:
    """What a process that has to succeed prints on both streams."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stdout.strip()[-200:]}")
    return done.stdout


def timmx_file(checkpoint: Path, labels: int) -> Path:
    """OpenVINO's form of the model as timmx exports it, in fp32.

    Raises:
        FileNotFoundError: timmx cannot be installed here.
        RuntimeError: It failed.
    """
    program = ROOT / ".venv-timmx" / "bin" / "timmx"
    if not program.exists():
        raise FileNotFoundError("requirements/bench-timmx.txt cannot be installed here")
    made = checkpoint.with_suffix(".timmx.xml")
    if not made.exists():
        command = [str(program), "export", "openvino", "vit_base_patch16_224", "--checkpoint", str(checkpoint)]
        printed([*command, "--num-classes", str(labels), "--no-fp16", "--output", str(made)])
    return made


def reason(error: Exception) -> str:
    """What a row says of a peer that could not be had."""
    return json.dumps(f"{type(error).__name__}: {error}".partition("\n")[0][:200])[1:-1]
