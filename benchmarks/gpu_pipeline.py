"""JPEG files to labels on a GPU: vitrify in C++ and Python beside torchvision on the GPU and timm's DataLoader.

    python benchmarks/gpu_pipeline.py pictures FOLDER        # needs scikit-learn; 64 of 500x375, 16 of 1920x1080
    python benchmarks/engines.py make vit.safetensors        # ViT-B/16, 5 classes, random weights
    vitrify export vit.safetensors -o vit.onnx               # --opset 16 for TensorRT 8.5
    vitrify build vit.onnx -o vit.engine --precision fp16 --profile 1:64:64
    python benchmarks/gpu_pipeline.py run vit.safetensors vit.engine FOLDER --output results.json \
        --classify build/cuda/bin/vitrify-classify --python PYTHON --environment ENV

vitrify's Python runs in a process of its own (`--python`, with the variables of `--environment`, where TensorRT's
Python is another one than PyTorch's), which this one leads. The contenders take turns, a round each, every other one
backwards; rows are medians of rounds. Each reads the files anew, so that what is timed is the path from a file in the
page cache to logits on the host. The latency is that of a batch in C++ and in PyTorch, and from asking for an image to
its answer in Python. *Stages* are milliseconds of a batch, timed apart, one after the other. The relative error is the
largest over the pictures of max |logits - reference| / max |reference|, against timm's transform and eager fp32 with
TF32 off; the C++ program gives probabilities, whose logarithms are shifted to the reference's mean. A contender that
cannot run is a row that says why.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gpu_pipeline_vitrify import WORKER, Program, Python
from worker_process import Worker, add_options, variables

SIZES = {"500x375": 64, "1920x1080": 16}
"""Pictures of each size."""

Array = np.ndarray[Any, Any]


class Contender(Protocol):
    """One way from JPEG files to logits."""

    name: str
    pixels: str

    def logits(self, files: list[str]) -> Array:
        """`[files, classes]`, of each file in order."""

    def time(self, files: list[str], seconds: float) -> dict[str, Any]:
        """images_per_s, latency_ms_p50 and latency_ms_p99 of a round of about that length."""

    def stages(self, files: list[str]) -> dict[str, float]:
        """Milliseconds of each stage of a batch, by name; empty where they cannot be told apart."""


def pictures(folder: Path) -> None:
    """Writes the JPEGs: cut from mosaics of scikit-learn's two photos at random places, quality 90, 4:2:0."""
    import io

    from PIL import Image

    from pixels import mosaic

    random = np.random.default_rng(0)
    for size, count in SIZES.items():
        width, height = map(int, size.split("x"))
        canvas = Image.open(io.BytesIO(mosaic(width + 640, height + 427)))
        (folder / size).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            left, top = int(random.integers(640)), int(random.integers(427))
            cut = canvas.crop((left, top, left + width, top + height))
            cut.save(folder / size / f"{number:02d}.jpg", quality=90)
    print(f"wrote {folder}")


def agreement(answer: Array, reference: Array, *, shifted: bool) -> dict[str, float]:
    """Top-1 agreement and the largest relative error."""
    if shifted:
        answer = answer + (reference - answer).mean(axis=1, keepdims=True)
    error = (np.abs(answer - reference).max(axis=1) / np.abs(reference).max(axis=1)).max()
    same = (answer.argmax(axis=1) == reference.argmax(axis=1)).mean()
    return {"top1_agreement": round(float(same), 4), "relative_error": float(f"{error:.2g}")}


def measure(
    ways: list[Contender | tuple[str, str, str]],
    files: list[str],
    reference: Array,
    *,
    case: str,
    rounds: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """The rows of one size; what is a name, pixels and a reason is a contender that could not be made."""
    rows: dict[int, dict[str, Any]] = {}
    timed: dict[int, list[dict[str, Any]]] = {}
    for index, way in enumerate(ways):
        if isinstance(way, tuple):
            rows[index] = {"case": case, "runtime": way[0], "pixels": way[1], "absent": way[2]}
            continue
        rows[index] = {"case": case, "runtime": way.name, "pixels": way.pixels}
        try:
            found = agreement(way.logits(files), reference, shifted=isinstance(way, Program))
            way.time(files, min(seconds, 0.5))  # warms up
            timed[index] = []
        except Exception as error:
            rows[index]["absent"] = first_line(error)
            continue
        rows[index].update(found)
    for number in range(rounds):
        for index in sorted(timed, reverse=bool(number % 2)):
            way = ways[index]
            assert not isinstance(way, tuple)
            try:
                timed[index].append(way.time(files, seconds))
            except Exception as error:
                rows[index]["failed"] = first_line(error)
    for index, results in timed.items():
        way = ways[index]
        assert not isinstance(way, tuple)
        for key in results[0] if results else ():
            rows[index][key] = round(statistics.median(result[key] for result in results), 2)
        try:
            stages = way.stages(files)
            rows[index]["stages"] = ", ".join(f"{key.removesuffix('_ms')} {ms:.2f}" for key, ms in stages.items())
        except Exception as error:
            rows[index]["stages"] = first_line(error)
    for row in rows.values():
        print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    return list(rows.values())


def first_line(error: Exception) -> str:
    """What a row says of an error."""
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


def run(arguments: argparse.Namespace) -> None:
    """Times everything and writes one JSON file, anew after each size."""
    import gpu_pipeline_torch as peers

    start = time.perf_counter()
    environment = variables(arguments)
    threads = arguments.threads or len(os.sched_getaffinity(0))
    worker = Worker(WORKER, arguments.python, environment)
    ways: list[Any] = []

    def add(name: str, pixels: str, make: Any) -> None:
        try:
            ways.append(make())
        except Exception as error:
            ways.append((name, pixels, first_line(error)))
        print(f"{time.perf_counter() - start:6.1f} s  {name}, {pixels}", flush=True)

    for pixels in arguments.pixels:
        add("vitrify, Python", pixels, lambda: Python(worker, arguments.model, pixels, arguments.batch, threads))  # noqa: B023
        if arguments.classify:
            command = [str(arguments.classify), str(arguments.model)]
            ways.append(
                Program(command, pixels, streams=arguments.streams, batch=arguments.batch, environment=environment)
            )
    models = peers.Models(arguments.checkpoint, arguments.batch, compiled=not arguments.no_compile)
    add("torchvision on the GPU", "gpu", lambda: peers.OnDevice(models, threads))
    add("timm DataLoader", "cpu", lambda: peers.Loader(models, threads))
    where = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": models.device_name,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {**models.versions, **worker.ask(do="versions")},
        "model": arguments.checkpoint.name,
    }
    rows: list[dict[str, Any]] = []
    for size in arguments.sizes:
        files = sorted(map(str, (arguments.pictures / size).glob("*.jpg")))
        case = f"JPEG to label, {size}, batch {arguments.batch}"
        reference = models.reference(files)
        rows += measure(ways, files, reference, case=case, rounds=arguments.rounds, seconds=arguments.seconds)
        document = json.dumps({"environment": where, "rows": rows}, indent=1) + "\n"
        arguments.output.write_text(document, encoding="utf-8")
        print(f"{time.perf_counter() - start:6.1f} s  {size} done", flush=True)
    for way in ways:
        if hasattr(way, "close"):
            way.close()


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("pictures").add_argument("folder", type=Path)
    timed = commands.add_parser("run")
    timed.add_argument("checkpoint", type=Path)
    timed.add_argument("model", type=Path, help="the engine")
    timed.add_argument("pictures", type=Path)
    timed.add_argument("--output", type=Path, required=True)
    timed.add_argument("--batch", type=int, default=64)
    timed.add_argument("--rounds", type=int, default=3)
    timed.add_argument("--seconds", type=float, default=1.2, help="of a round of a contender")
    timed.add_argument("--sizes", nargs="+", default=list(SIZES))
    timed.add_argument("--pixels", nargs="+", default=["gpu", "cpu"], help="for vitrify")
    timed.add_argument("--streams", type=int, default=4, help="of the C++ program")
    timed.add_argument("--threads", type=int, help="that decode; by default one a core")
    timed.add_argument("--classify", type=Path, help="the C++ program")
    timed.add_argument(
        "--no-compile", action="store_true", help="run PyTorch's contenders eagerly: compiling takes 60 s"
    )
    add_options(timed)
    arguments = parser.parse_args()
    if arguments.command == "pictures":
        pictures(arguments.folder)
    else:
        run(arguments)


if __name__ == "__main__":
    main()
