"""`vitrify quantize` beside NNCF, ONNX Runtime's quantizers, ModelOpt and timmx: accuracy and latency in one table.

    scripts/bench precision
    .venv/bin/python benchmarks/precision.py "digits ViT at 32"        one model; writes no results

Every tool gets the same fp32 ONNX file and the same calibration images, prepared by vitrify, in a process and an
environment of its own (quantizers.py). Then one process opens every file in OpenVINO, with an fp32 and a bf16 hint,
and in ONNX Runtime, two threads each, and times them in turns at batch 1 and 8. Accuracy is measured on labelled images
that no tool has seen, with vitrify's preprocessing. Two models: the digits ViT that scripts/demo trains, and ViT-B/16
with random weights, whose rows say how fast a file is and how well its numbers are kept, and nothing of accuracy.
"""

from __future__ import annotations

import collections
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from harness import environment, versions_in, write_results
from precision_tasks import ROOT, SCRATCH, TASKS, Array, Task, tensors

from vitrify.runtimes import has_native_bf16
from vitrify.timing import take_turns

THREADS = 2
BATCHES = (1, 8)

ENVIRONMENTS = {"NNCF": "nncf", "ModelOpt": "modelopt", "timmx": "timmx"}
PINNED = {"nncf": ("nncf",), "modelopt": ("nvidia-modelopt",), "timmx": ("timmx", "torchao")}


def made(task: Task, recipe: str, folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """Runs one quantizer; its file, and a row on how it was made. None where it failed, with the reason in the row."""
    row: dict[str, Any] = {"case": f"making the file, {task.name}", "file": recipe}
    tool = ENVIRONMENTS.get(recipe.split(maxsplit=1)[0])
    python = ROOT / f".venv-{tool}" / "bin" / "python" if tool else Path(sys.executable)
    if not python.exists():
        return None, row | {"note": f"absent: requirements/bench-{tool}.txt cannot be installed here"}
    suffix = ".xml" if recipe.startswith("NNCF") and "ONNX" not in recipe else ".onnx"
    path = folder / (recipe.replace(" ", "-").replace(",", "") + suffix)
    request = folder / f"{path.stem}.json"
    request.write_text(
        json.dumps(
            {
                "recipe": recipe,
                "source": str(task.source),
                "checkpoint": str(task.checkpoint),
                "calibration": str(folder / "calibration.npy"),
                "calibration_images": [str(image) for image in task.calibration],
                "trained": task.labels is not None,
                "output": str(path),
                "threads": THREADS,
            }
        ),
        encoding="utf-8",
    )
    command = [python, ROOT / "benchmarks" / "quantizers.py", request]
    print(f"{task.name}: {recipe}", flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    path.with_suffix(".log").write_text(done.stdout, encoding="utf-8")
    last = done.stdout.rstrip().rpartition("\n")[2]
    if done.returncode:
        return None, row | {"note": f"absent: {last}"}
    report = json.loads(last)
    size = sum(file.stat().st_size for file in {path, path.with_suffix(".bin")} if file.exists())
    return path, row | {
        "seconds": round(report["seconds"], 1),
        "memory_mb": round(report["memory_mb"]),
        "size_mb": round(size / 1e6, 2),
        "in_8_bits": in_8_bits(path),
        "tensorrt_rtx": parsed_by_tensorrt(path),
        "note": report["note"],
    }


def in_8_bits(path: Path) -> str:
    """Which operators read numbers of 8 bits, and how many of each."""
    if path.suffix == ".xml":
        count = path.read_text(encoding="utf-8").count('type="FakeQuantize"')
        return f"FakeQuantize {count}"
    graph = onnx.load(path).graph
    by = {name: node.op_type for node in graph.node for name in node.output}
    found = collections.Counter(
        node.op_type
        for node in graph.node
        if node.op_type.endswith("Integer")
        or (node.op_type != "Shape" and any(by.get(name) == "DequantizeLinear" for name in node.input))
    )
    return ", ".join(f"{operator} {count}" for operator, count in sorted(found.items())) or "none"


def parsed_by_tensorrt(path: Path) -> str:
    """Whether TensorRT-RTX, which needs no GPU for it, makes a strongly typed network of a file, or what it refuses."""
    try:
        import tensorrt_rtx_bindings as trt
    except ImportError:
        return "not installed"
    if path.suffix != ".onnx":
        return "another format"
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if parser.parse(path.read_bytes()):
        return "parsed"
    return f"refused: {parser.get_error(0).node_operator()}"


def opened(path: Path, runtime: str, hint: str) -> Callable[[Array], Array]:
    """A file in a runtime, which gives logits for a batch: both as their own documentation opens a file."""
    if runtime == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = THREADS, 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda batch: session.run(None, {name: batch})[0]
    import openvino

    config = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[hint],
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(path, "CPU", config).create_infer_request()
    return lambda batch: request.infer([batch], share_inputs=True)[0].astype(np.float32)


def ways(path: Path, *, briefly: bool) -> list[tuple[str, str]]:
    """Runtimes that read a file's format, and precisions that they can be asked for; briefly, the fastest alone."""
    found = [("openvino", "bf16")] * has_native_bf16()
    if not (found and briefly):
        found = [("openvino", "fp32"), *found]
    return found if path.suffix == ".xml" else [*found, ("onnxruntime", "fp32")]


def rows_of(task: Task) -> list[dict[str, Any]]:
    """Makes every file of a model, then runs them all in turns."""
    folder = SCRATCH / task.source.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    np.save(folder / "calibration.npy", tensors(task, task.calibration))
    making, files = [], {"source": task.source}
    for recipe in task.files:
        path, row = made(task, recipe, folder)
        making.append(row)
        if path is not None:
            files[recipe] = path

    images, running, calls = tensors(task, task.images), [], {}
    truth = answers(opened(task.source, "onnxruntime", "fp32"), images)
    for name, path in files.items():
        # ViT-B/16 takes long, and memory: peers that are not OpenVINO's own leave its fp32 hint out.
        briefly = task.labels is None and name not in ("source", "vitrify int8", "NNCF")
        for runtime, hint in ways(path, briefly=briefly):
            row = {"case": f"running it, {task.name}", "file": name, "runtime": runtime, "hint": hint}
            try:
                call = opened(path, runtime, hint)
                found = compared(answers(call, images), truth, task.labels)
            except Exception as error:  # each runtime has exceptions of its own; a file that one refuses is a result
                running.append(row | {"note": f"absent: {str(error).strip().splitlines()[-1][:120]}"})
                continue
            calls[len(running)] = call
            running.append(row | found)
    for batch in BATCHES:
        add_latencies(running, calls, images[:batch], max(1, task.repeats // batch))
    order = (
        "case",
        "file",
        "runtime",
        "hint",
        *(f"batch_{n}_ms" for n in BATCHES),
        *(f"batch_{n}_times" for n in BATCHES),
    )
    return [*making, *({key: row[key] for key in (*order, *row) if key in row} for row in running)]


def answers(call: Callable[[Array], Array], images: Array) -> Array:
    """Logits of all images, eight at a time."""
    return np.concatenate([call(images[n : n + 8]).copy() for n in range(0, len(images), 8)])


def compared(logits: Array, truth: Array, labels: list[int] | None) -> dict[str, Any]:
    """Top-1 and agreement where there are labels; the error's root mean square, relative to that of the source."""
    error = float(np.sqrt(np.square(logits - truth, dtype=np.float64).sum() / np.square(truth, dtype=np.float64).sum()))
    found: dict[str, Any] = {"relative_error": float(f"{error:.2g}")}
    if labels is None:
        return found
    answered = logits.argmax(axis=1)
    return {
        "top1_percent": round(100 * float((answered == np.asarray(labels)).mean()), 2),
        "agreement_percent": round(100 * float((answered == truth.argmax(axis=1)).mean()), 2),
    } | found


def add_latencies(
    rows: list[dict[str, Any]], calls: dict[int, Callable[[Array], Array]], batch: Array, repeats: int
) -> None:
    """Times every file in turns, and against the fastest source of its own runtime, round by round."""

    def turn(call: Callable[[Array], Array]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(repeats):
                call(batch)

        return run

    size = len(batch)
    turns = take_turns({str(number): turn(call) for number, call in calls.items()}, budget_s=30)
    for number in calls:
        row = rows[number]
        sources = [n for n in calls if rows[n]["file"] == "source" and rows[n]["runtime"] == row["runtime"]]
        fastest = min(sources, key=lambda n: turns.median_ms(str(n)))
        row[f"batch_{size}_ms"] = round(turns.median_ms(str(number)) / repeats, 3)
        row[f"batch_{size}_times"] = round(turns.speedup(str(number), str(fastest))[1], 2)


def main(wanted: list[str]) -> None:
    """Measures the models that are asked for, or all of them; writes results of all of them alone."""
    if unknown := set(wanted) - set(TASKS):
        sys.exit(f"error: no model named {', '.join(unknown)}\nexpected: {', '.join(TASKS)}")
    start = time.perf_counter()
    rows = [row for name in wanted or TASKS for row in rows_of(TASKS[name]())]
    print(f"{time.perf_counter() - start:.0f} s")
    if wanted:
        for row in rows:
            print(json.dumps(row))
        return
    where = environment()
    for tool, packages in PINNED.items():
        where["versions"] |= versions_in(tool, packages)
    write_results("precision", rows, where)


if __name__ == "__main__":
    main(sys.argv[1:])
