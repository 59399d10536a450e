"""The C++ program against Python, ONNX Runtime, OpenVINO's own benchmark_app and, where it is built, vit.cpp.

    scripts/bench cpp
    VIT_CPP=path/to/bin/vit scripts/bench cpp                 instead of building it

Whole processes from start to the first answer for one 500x375 JPEG, and inference alone at batch 1 and with a stream a
core. Everything in fp32 on the same weights; rounds are interleaved, every other one backwards; medians of the rounds.
vit.cpp (https://github.com/staghado/vit.cpp) reads the same weights in float16, the only form of a patch embedding that
it can run, in a file of its own form. It resizes without antialiasing; `pipeline.py` compares its answers.
"""

from __future__ import annotations

import functools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foreign_forms import ggml_file
from harness import ROOT, cores, environment, write_results
from models import MODELS, artifact

from pixels import mosaic

CLASSIFY = ROOT / "build" / "release" / "bin" / "vitrify-classify"
BIN = Path(sys.executable).parent
INFERENCES = {224: 40, 32: 2000}

# What a program with onnxruntime alone would do, with Pillow's pixels.
ONNXRUNTIME = """
import sys, numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1])
side = session.get_inputs()[0].shape[-1]
image = Image.open(sys.argv[2]).convert("RGB")
scale = side * 248 // 224 / min(image.size)
image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
left, top = (image.width - side) // 2, (image.height - side) // 2
pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32)
tensor = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]
print(session.run(None, {session.get_inputs()[0].name: tensor})[0].argmax())
"""

# Inference alone, in a process of its own as the others are.
PYTHON_LATENCY = """
import json, sys, time, numpy as np
from vitrify import Classifier
from vitrify.spec import golden_batch
count = int(sys.argv[3])
with Classifier(sys.argv[1], precision="fp32", runtime=sys.argv[2]) as classifier:
    tensor = golden_batch(classifier.spec)[:1]
    classifier.logits(tensor)
    times = []
    for _ in range(count):
        start = time.perf_counter()
        classifier.logits(tensor)
        times.append((time.perf_counter() - start) * 1e3)
print(json.dumps(times))
"""


# The same from as many threads as there are cores.
PYTHON_THROUGHPUT = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from vitrify import Classifier
from vitrify.spec import golden_batch
count, threads = int(sys.argv[3]), int(sys.argv[4])
with Classifier(sys.argv[1], precision="fp32", runtime=sys.argv[2]) as classifier, ThreadPoolExecutor(threads) as pool:
    tensor = golden_batch(classifier.spec)[:1]
    list(pool.map(lambda _: classifier.logits(tensor), range(2 * threads)))
    start = time.perf_counter()
    list(pool.map(lambda _: classifier.logits(tensor), range(count)))
    print(count / (time.perf_counter() - start))
"""


# A process counts the memory of the one that it was forked from as its own peak: this one is small.
LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - start
print("\\n" + json.dumps([seconds, usage.ru_maxrss * 1024 / 1e6, os.waitstatus_to_exitcode(status)]))
"""


def measured(command: list[str]) -> tuple[float, float, str]:
    """Seconds and peak megabytes of a process that has to succeed, and what it printed."""
    launcher = [sys.executable, "-S", "-E", "-c", LAUNCHER, *command]
    done = subprocess.run(launcher, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    text, _, figures = done.stdout.rstrip().rpartition("\n")
    seconds, megabytes, code = json.loads(figures)
    if code:
        raise RuntimeError(f"{' '.join(command)}\n{text}")
    return seconds, megabytes, text


def interleaved(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """What each call gave in each round; one more round comes first and warms up."""
    results: dict[str, list[Any]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in reversed(calls) if number % 2 else calls:
            result = calls[name]()
            if number:
                results[name].append(result)
    return results


def startup_rows(name: str, model: Path, image: Path, folder: Path) -> list[dict[str, Any]]:
    """From the start of the process to its end, with the answer for one image."""
    commands = {
        "vitrify-classify": [CLASSIFY, model, image, "--precision", "fp32"],
        "vitrify-classify --cache": [CLASSIFY, model, image, "--precision", "fp32", "--cache", folder / "cache"],
        "vitrify predict (Python)": [BIN / "vitrify", "predict", model, image, "--precision", "fp32"],
        "ONNX Runtime (Python)": [sys.executable, "-c", ONNXRUNTIME, model, image],
    }
    if "VIT_CPP" in os.environ and "224" in name:
        commands["vit.cpp"] = [
            os.environ["VIT_CPP"], "-t", str(cores()), "-m", ggml_file(model), "-i", image,
        ]  # fmt: skip
    calls = {key: functools.partial(measured, [*map(str, command)]) for key, command in commands.items()}
    results = interleaved(calls, 5)
    medians = {key: statistics.median(seconds for seconds, _, _ in runs) for key, runs in results.items()}
    python = medians["vitrify predict (Python)"]
    rows: list[dict[str, Any]] = [
        {
            "case": f"start to first answer, {name}",
            "program": key,
            "seconds": round(medians[key], 3),
            "of_python": round(medians[key] / python, 2),
            "peak_memory_mb": round(statistics.median(megabytes for _, megabytes, _ in runs)),
        }
        for key, runs in results.items()
    ]
    if "vit.cpp" not in commands and "224" in name:
        note = "absent: not built here, and VIT_CPP names no program"
        rows.append({"case": f"start to first answer, {name}", "program": "vit.cpp", "note": note})
    return rows


def percentile(samples: list[float], fraction: float) -> float:
    """Nearest rank."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, -(-int(fraction * 1000) * len(ordered) // 1000) - 1))]


def benchmark_app(model: Path, side: int, options: list[str]) -> str:
    """What OpenVINO's benchmark_app prints."""
    command = [BIN / "benchmark_app", "-m", model, "-d", "CPU", "-infer_precision", "f32"]
    command += ["-shape", f"[1,3,{side},{side}]", *options]
    return measured([*map(str, command)])[2]


def number_in(pattern: str, text: str) -> float:
    """The number that a pattern finds."""
    found = re.search(pattern, text)
    if not found:
        raise RuntimeError(f"no {pattern} in\n{text}")
    return float(found[1])


def latency_rows(name: str, model: Path, image: Path, side: int) -> list[dict[str, Any]]:
    """Inference alone, batch 1: median and 99th percentile in milliseconds."""
    count = INFERENCES[side]

    def program() -> tuple[float, float]:
        command = [CLASSIFY, model, image, "--precision", "fp32", "--bench", count, "--json"]
        report = json.loads(measured([*map(str, command)])[2])
        return report["inference_ms"]["p50"], report["inference_ms"]["p99"]

    def python(runtime: str) -> tuple[float, float]:
        command = [sys.executable, "-c", PYTHON_LATENCY, model, runtime, count]
        times = json.loads(measured([*map(str, command)])[2])
        return statistics.median(times), percentile(times, 0.99)

    def app() -> tuple[float, None]:
        text = benchmark_app(model, side, ["-hint", "latency", "-api", "sync", "-niter", str(count)])
        unit = 1e-3 if re.search(r"Median:\s+[\d.]+ us", text) else 1
        return unit * number_in(r"Median:\s+([\d.]+) [mu]s", text), None  # it prints one percentile a run

    calls: dict[str, Callable[[], Any]] = {
        "vitrify-classify": program,
        "benchmark_app": app,
        "vitrify (Python)": lambda: python("openvino"),
        "ONNX Runtime (Python)": lambda: python("onnxruntime"),
    }
    results = interleaved(calls, 4)
    # Paired: what the machine did to one round, it did to all of it.
    return [
        {
            "case": f"inference, batch 1, {name}",
            "program": key,
            "p50_ms": round(statistics.median(p50 for p50, _ in runs), 3),
            "p99_ms": "" if runs[0][1] is None else round(statistics.median(p99 for _, p99 in runs), 3),
            "of_benchmark_app": round(
                statistics.median(
                    mine / theirs for (mine, _), (theirs, _) in zip(runs, results["benchmark_app"], strict=True)
                ),
                3,
            ),
        }
        for key, runs in results.items()
    ]


def throughput_rows(name: str, model: Path, image: Path, side: int) -> list[dict[str, Any]]:
    """One stream a core: images a second."""
    count = INFERENCES[side] * cores()

    def program() -> float:
        command = [CLASSIFY, model, image, "--precision", "fp32", "--bench", count, "--streams", cores(), "--json"]
        return float(json.loads(measured([*map(str, command)])[2])["images_per_s"])

    def app() -> float:
        options = ["-hint", "none", "-nstreams", str(cores()), "-nireq", str(cores()), "-niter", str(count)]
        return number_in(r"Throughput:\s+([\d.]+) FPS", benchmark_app(model, side, options))

    def python(runtime: str) -> float:
        command = [sys.executable, "-c", PYTHON_THROUGHPUT, model, runtime, count, cores()]
        return float(measured([*map(str, command)])[2])

    calls: dict[str, Callable[[], Any]] = {
        "vitrify-classify, from JPEG": program,
        "benchmark_app, inference alone": app,
        "vitrify (Python), inference alone, one stream": lambda: python("openvino"),
        "ONNX Runtime (Python), inference alone": lambda: python("onnxruntime"),
    }
    results = interleaved(calls, 2)
    return [
        {
            "case": f"{cores()} callers at once, {name}",
            "program": key,
            "images_per_s": round(statistics.median(runs), 1),
        }
        for key, runs in results.items()
    ]


def main() -> None:
    """Measures both models."""
    for step in (["--preset", "release"], ["--build", "--preset", "release"]):
        subprocess.run(["cmake", *step], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    startup, latency, throughput = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "photo.jpg"
        image.write_bytes(mosaic(500, 375))
        for name, (side, _) in MODELS.items():
            model = artifact(name)
            startup += startup_rows(name, model, image, Path(scratch))
            latency += latency_rows(name, model, image, side)
            throughput += throughput_rows(name, model, image, side)
    write_results("cpp", [*startup, *latency, *throughput], environment())


if __name__ == "__main__":
    main()
