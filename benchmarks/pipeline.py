"""From a JPEG file to a label with ViT-B/16 on a CPU, one image at a time: vitrify beside what people write.

    scripts/bench pipeline

Every contender opens the file, prepares it as ViT-B/16's evaluation transform says, infers in fp32 (or in bf16 or int8
where its name says so) and names the best class. The peers prepare with timm's transform on Pillow's pixels. Answers
are compared with PyTorch eager's logits before anything is timed; then all take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import cores, environment, write_results
from models import FOLDER, artifact
from PIL import Image

from pixels import mosaic

SIZES = ((500, 375), (4032, 3024))
SIDE = 224

Answer = Callable[[Path], Any]
"""A file to its logits, `[1, classes]`; the caller names the class."""


def contenders() -> dict[str, Answer]:
    """Each way from a file to logits, the reference first."""
    import onnxruntime
    import openvino
    import torch

    from vitrify.checkpoints import load_checkpoint
    from vitrify.pixels import preprocess
    from vitrify.runtimes import RuntimeOptions, has_native_bf16, infer_logits, open_runtime

    path = artifact("ViT-B/16 at 224")
    model = load_checkpoint(path.with_suffix(".safetensors")).model.eval()
    compiled = torch.compile(model)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    core = openvino.Core()
    hints = {"fp32": "f32", "bf16": "bf16"}
    precisions = [name for name in hints if name == "fp32" or has_native_bf16()]
    network = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"})
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
        runtime = open_runtime(file, name, RuntimeOptions(precision=precision))
        spec = runtime.spec
        return lambda image: infer_logits(runtime, spec, preprocess([image], spec.preprocess, fast_decode=fast))

    name = session.get_inputs()[0].name
    return {
        "timm + torch eager": with_torch(model),
        "timm + torch.compile": with_torch(compiled),
        "timm + onnxruntime": lambda file: session.run(None, {name: pillow(file).numpy()})[0],
        "timm + openvino": lambda file: network(pillow(file).numpy())[0],
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

    from vitrify.graphs import write_artifact
    from vitrify.pixels import preprocess
    from vitrify.precision import Recipe, Rewriter
    from vitrify.spec import read_spec

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


def main() -> None:
    """Compares, times and writes the results."""
    from vitrify.bench import take_turns

    rows = []
    answers = contenders()
    first = next(iter(answers))
    for width, height in SIZES:
        file = FOLDER / f"mosaic-{width}x{height}.jpg"
        file.write_bytes(mosaic(width, height))
        truth = np.asarray(answers[first](file))
        errors, same = {}, {}
        for name, answer in answers.items():
            logits = np.asarray(answer(file))
            errors[name] = float(np.sqrt(np.square(logits - truth).mean() / np.square(truth).mean()))
            same[name] = int(logits.argmax()) == int(truth.argmax())
        calls = {
            name: (lambda answer=answer, file=file: int(answer(file).argmax())) for name, answer in answers.items()
        }
        turns = take_turns(calls, rounds=20, budget_s=90, settling_calls=1)
        for name in answers:
            low, times, high = turns.speedup(name, first)
            rows.append(
                {
                    "case": f"{width}x{height} JPEG to label, {cores()} cores",
                    "contender": name,
                    "latency_ms": round(turns.median_ms(name), 1),
                    "p90_ms": round(turns.percentile_ms(name, 90), 1),
                    "times_as_fast": round(times, 2),
                    "quartiles": f"{low:.2f}-{high:.2f}",
                    "relative_error": f"{errors[name]:.1g}",
                    "same_label": same[name],
                }
            )
    write_results("pipeline", rows, environment())


if __name__ == "__main__":
    main()
