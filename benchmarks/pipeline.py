"""From a JPEG file to a label with ViT-B/16 on a CPU, one image at a time: vitrify beside what people write.

    scripts/bench pipeline
    .venv/bin/python benchmarks/pipeline.py --rounds 3        a try, which writes no results

Every contender opens the file, prepares it as ViT-B/16's evaluation transform says, infers in fp32 (or in bf16 or int8
where its name says so) and names the best class. Peers run the graph of `torch.onnx.export` and onnxslim. Those named
timm prepare with timm's transform on Pillow's pixels, optimum with an image processor of transformers that is told the
same sizes. Answers are compared with PyTorch eager's logits before anything is timed; then all take turns, those in
processes of their own by their own clocks. What a peer does otherwise, its row says; `pipeline_peers.py` says how it is
run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from foreign_forms import hugging_face_folder
from harness import cores, environment, versions_in, write_results
from models import FOLDER, artifact, plain_export
from PIL import Image
from pipeline_peers import (
    BenchmarkApp,
    Contender,
    Optimum,
    VitCpp,
    compared,
    reason,
    timmx_file,
)

from pixels import mosaic
from vitrify.timing import Turns

SIZES = ((500, 375), (4032, 3024))
SIDE = 224
ROUNDS = 20
BUDGET_S = 180.0
OPTIMUM = ("optimum", "optimum-onnx", "transformers")

Answer = Callable[[Path], Any]
"""A file to its logits, `[1, classes]`; the caller names the class."""


class Here:
    """A contender in this process."""

    note = ""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def compare(self, file: Path, truth: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
        """By its logits."""
        return compared(self.answer(file), truth)

    def seconds(self, file: Path) -> float:
        """From the file to the best class."""
        self.answer(file)
        start = time.perf_counter()
        int(self.answer(file).argmax())
        return time.perf_counter() - start


def answers() -> dict[str, Answer | str]:
    """Each way from a file to logits in this process, the reference first; or why there is none."""
    import onnxruntime
    import openvino
    import torch

    from vitrify.checkpoints import load_checkpoint
    from vitrify.pixels import preprocess
    from vitrify.runtimes import has_native_bf16, infer_logits, open_runtime

    path = artifact("ViT-B/16 at 224")
    model = load_checkpoint(path.with_suffix(".safetensors")).model.eval()
    compiled = torch.compile(model)
    plain = str(plain_export(path))
    session = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"])
    core = openvino.Core()
    hints = {"fp32": "f32", "bf16": "bf16"}
    precisions = [name for name in hints if name == "fp32" or has_native_bf16()]
    fp32 = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    network = core.compile_model(plain, "CPU", fp32)
    transform = timm_transform()

    def pillow(file: Path) -> Any:
        with Image.open(file) as image:
            return transform(image.convert("RGB"))[None]

    def with_torch(network: Any) -> Answer:
        def answer(file: Path) -> Any:
            with torch.inference_mode():
                return network(pillow(file)).numpy()

        return answer

    def ours(name: str, precision: Any, *, file: Path = path, fast: bool = False) -> Answer:
        runtime = open_runtime(file, name, precision=precision)
        spec = runtime.spec
        return lambda image: infer_logits(runtime, spec, preprocess([image], spec.preprocess, fast_decode=fast))

    def with_timmx() -> Answer | str:
        try:
            exported = core.compile_model(str(timmx_file(path.with_suffix(".safetensors"), 5)), "CPU", fp32)
        except Exception as error:
            return reason(error)
        return lambda file: exported(pillow(file).numpy())[0]

    name = session.get_inputs()[0].name
    return {
        "timm + torch eager": with_torch(model),
        "timm + torch.compile": with_torch(compiled),
        "timm + onnxruntime": lambda file: session.run(None, {name: pillow(file).numpy()})[0],
        "timm + openvino": lambda file: network(pillow(file).numpy())[0],
        "timm + timmx's openvino": with_timmx(),
        "vitrify onnxruntime": ours("onnxruntime", "fp32"),
        **{f"vitrify openvino {precision}": ours("openvino", precision) for precision in precisions},
        f"vitrify int8, openvino {precisions[-1]}": ours("openvino", precisions[-1], file=int8_artifact(path)),
        f"vitrify int8, openvino {precisions[-1]}, fast_decode": ours(
            "openvino", precisions[-1], file=int8_artifact(path), fast=True
        ),
    }


def int8_artifact(path: Path) -> Path:
    """The model in int8, calibrated on scikit-learn's two photos: its weights are random, so only speed counts."""
    import onnx
    from sklearn.datasets import load_sample_images

    from vitrify.artifacts import read_spec
    from vitrify.graphs import write_artifact
    from vitrify.pixels import preprocess
    from vitrify.precision import Recipe, Rewriter

    made = path.with_suffix(".int8.onnx")
    if not made.exists():
        spec = read_spec(path)
        batch = preprocess(load_sample_images().images, spec.preprocess)
        rewritten = Rewriter(onnx.load(path), lambda: [batch]).rewrite(Recipe(precision="int8"))
        write_artifact(rewritten.proto, spec.replace(precision="int8", verification=None), made)
    return made


def timm_transform() -> Any:
    """ViT-B/16's evaluation transform, with the sizes of `models.artifact`."""
    from timm.data.transforms_factory import create_transform

    return create_transform(
        (3, SIDE, SIDE), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=SIDE / (SIDE * 248 // 224)
    )


def others() -> dict[str, Contender | str]:
    """The peers in processes of their own, or why they cannot be had."""
    path = artifact("ViT-B/16 at 224")
    makers: dict[str, Callable[[], Contender]] = {
        "optimum": lambda: Optimum(hugging_face_folder(path), fast=False),
        "optimum, fast processor": lambda: Optimum(hugging_face_folder(path), fast=True),
        "vit.cpp": lambda: VitCpp(path, *picture_as_it_is(path)),
        "benchmark_app": lambda: BenchmarkApp(plain_export(path), SIDE),
    }
    made: dict[str, Contender | str] = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except Exception as error:  # its row says why
            made[name] = reason(error)
    return made


def picture_as_it_is(path: Path) -> tuple[Path, Any]:
    """A picture of the model's own size, and the logits of its pixels, normalised and no more."""
    from vitrify.runtimes import infer_logits, open_runtime

    file = FOLDER / f"square-{SIDE}.png"
    with Image.open(io.BytesIO(mosaic(SIDE, SIDE))) as image:
        image.save(file)
        tensor = (np.asarray(image, np.float32) / 255 - 0.5) / 0.5
    with open_runtime(path, "onnxruntime") as runtime:
        batch = np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])
        return file, infer_logits(runtime, runtime.spec, batch)[0].astype(np.float64)


def turns_of(contenders: dict[str, Contender], file: Path, *, rounds: int) -> tuple[Turns, dict[str, str]]:
    """All in turns, every other round backwards, each by its own clock; and why some ended before that.

    At least three rounds, and none begins after `BUDGET_S`.
    """
    failed: dict[str, str] = {}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    begin = time.perf_counter()
    for number in range(rounds):
        for name in list(reversed(contenders)) if number % 2 else list(contenders):
            if name in failed:
                continue
            try:
                seconds[name].append(contenders[name].seconds(file))
            except Exception as error:  # the others go on
                failed[name] = reason(error)
        if number >= 2 and time.perf_counter() - begin > BUDGET_S:
            break
    return Turns(seconds={name: tuple(times) for name, times in seconds.items() if name not in failed}), failed


def rows_of(file: Path, case: str, known: dict[str, Contender | str], *, rounds: int) -> list[dict[str, Any]]:
    """A row a contender, the first being the reference; what is absent says why."""
    rows: dict[str, dict[str, Any]] = {name: {"case": case, "contender": name} for name in known}
    first, reference = next(iter(known.items()))
    assert isinstance(reference, Here)
    truth = np.asarray(reference.answer(file), np.float64).reshape(-1)
    timed: dict[str, Contender] = {}
    for name, contender in known.items():
        if isinstance(contender, str):
            rows[name]["note"] = f"absent: {contender}"
            continue
        try:
            rows[name] |= {"latency_ms": "", **contender.compare(file, truth), "note": contender.note}
            contender.seconds(file)  # warms up
        except Exception as error:
            rows[name]["note"] = f"failed: {reason(error)}"
            continue
        timed[name] = contender
    turns, failed = turns_of(timed, file, rounds=rounds)
    for name, why in failed.items():
        rows[name]["note"] = f"failed: {why}"
    for name in turns.seconds:
        low, times, high = turns.speedup(name, first)
        rows[name] |= {
            "latency_ms": round(turns.median_ms(name), 1),
            "p90_ms": round(turns.percentile_ms(name, 90), 1),
            "times_as_fast": round(times, 2),
            "quartiles": f"{low:.2f}-{high:.2f}",
        }
    columns = ("latency_ms", "p90_ms", "times_as_fast", "quartiles", "relative_error", "same_label", "note")
    return [
        {**{key: row[key] for key in ("case", "contender")}, **{c: row.get(c, "") for c in columns}}
        for row in rows.values()
    ]


def main(rounds: int) -> None:
    """Compares, times and writes the results, where it is no try."""
    known: dict[str, Contender | str] = {
        name: answer if isinstance(answer, str) else Here(answer) for name, answer in answers().items()
    }
    known |= others()
    rows = []
    for width, height in SIZES:
        file = FOLDER / f"mosaic-{width}x{height}.jpg"
        file.write_bytes(mosaic(width, height))
        rows += rows_of(file, f"{width}x{height} JPEG to label, {cores()} cores", known, rounds=rounds)
    where = environment()
    where["versions"] |= versions_in("timmx", ("timmx",)) | versions_in("optimum", OPTIMUM)
    if not isinstance(known["vit.cpp"], str):
        where["versions"]["vit.cpp"] = os.environ.get("VIT_CPP_VERSION", "as VIT_CPP is")
    if rounds == ROUNDS:
        write_results("pipeline", rows, where)
    else:
        print("\n".join(json.dumps(row) for row in rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="other than the default: a try without results")
    main(parser.parse_args().rounds)
