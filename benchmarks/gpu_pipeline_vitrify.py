"""vitrify's contenders of `benchmarks/gpu_pipeline.py`: the C++ program, and the classifier in a worker process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from worker_process import Worker

WORKER = Path(__file__).with_name("gpu_pipeline_worker.py")

Array = np.ndarray[Any, Any]


class Program:
    """`vitrify-classify`; a process a round."""

    def __init__(self, command: list[str], pixels: str, *, streams: int, batch: int, environment: Any) -> None:
        self.name, self.pixels = f"vitrify-classify, {streams} streams", pixels
        self._command = [*command, "--batch-size", str(batch), "--streams", str(streams)]
        self._command += ["--pixels", pixels] if pixels != "auto" else []
        self._batch, self._variables = batch, environment
        self._rate: dict[str, float] = {}
        self._report: dict[str, Any] = {}

    def _run(self, *arguments: str) -> str:
        command = [*self._command, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=self._variables, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(done.stderr.strip() or f"exit code {done.returncode}")
        return done.stdout

    def logits(self, files: list[str]) -> Array:
        """Logarithms of its probabilities."""
        rows = []
        for line in self._run(*files, "--format", "jsonl", "--top-k", "1000").splitlines():
            top = sorted(json.loads(line)["top"], key=lambda score: score["index"])
            rows.append([np.log(max(score["probability"], 1e-30)) for score in top])
        return np.asarray(rows)

    def time(self, files: list[str], seconds: float) -> dict[str, Any]:
        """Of a run whose length is guessed from the last one."""
        runs = max(16, int(seconds * self._rate.get(files[0], 0) / self._batch))
        report = json.loads(self._run(*files, "--bench", str(runs), "--json"))
        self._rate[files[0]] = report["images_per_s"]
        self._report = report
        latency = report["latency_ms"]
        return {
            "images_per_s": report["images_per_s"],
            "latency_ms_p50": latency["p50"],
            "latency_ms_p99": latency["p99"],
        }

    def stages(self, files: list[str]) -> dict[str, float]:
        """What its last report tells."""
        whole = ("latency_ms", "first_answer_ms", "load_ms")
        report = {**self._report, **(self._report.get("stages_ms") or {})}
        return {key: value["p50"] for key, value in report.items() if isinstance(value, dict) and "p50" in value
                and key not in whole}  # fmt: skip


class Python:
    """vitrify's Classifier in the worker."""

    def __init__(self, worker: Worker, model: Path, pixels: str, batch: int, threads: int) -> None:
        self.name, self.pixels = "vitrify, Python", pixels
        self._worker = worker
        worker.ask(do="open", model=str(model), pixels=pixels, batch=batch, threads=threads)

    def logits(self, files: list[str]) -> Array:
        """As the classifier gives them."""
        return np.asarray(self._worker.ask(do="logits", pixels=self.pixels, files=files)["logits"])

    def time(self, files: list[str], seconds: float) -> dict[str, Any]:
        """As the worker's clock has them."""
        return self._worker.ask(do="time", pixels=self.pixels, files=files, seconds=seconds)

    def stages(self, files: list[str]) -> dict[str, float]:
        """Of batches one after the other."""
        found: dict[str, float] = self._worker.ask(do="stages", pixels=self.pixels, files=files)
        return found
