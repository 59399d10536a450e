"""The cuda engine beside PyTorch on one NVIDIA GPU, on the same random weights and tensors.

    python benchmarks/cuda_engine.py strip MODEL.onnx MODEL.safetensors -o GRAPH/
    python benchmarks/cuda_engine.py run GRAPH/ --arch vit_base_patch16_224 --program build/cuda_engine -o RESULT.json

`strip`, where the artifact was exported, keeps its graph and where each constant is among the checkpoint's weights: a
few kilobytes to copy to the GPU machine. `run`, there, makes weights that look like a trained model's where speed and
error depend on it (norms and biases that are no identity, a head whose logits are spread), fills them in, and times the
engine (`cmake --build build --target cuda_engine`), PyTorch's eager mode and `torch.compile(mode="max-autotune")` in
fp16. The engine starts twice: `tune_s` is its first batch of a size without a kept choice of algorithms, `tune_again_s`
and `ms_again` are a second process's, which finds it. Every row has its error against PyTorch in fp32 and how often its
first label is the same. Labels of a model with random weights are close to each other: its agreement is a lower bound,
and no statement about a trained one.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

_SMALLEST = 64  # values; smaller constants are shapes and scales, which the graph keeps


def strip(artifact: Path, checkpoint: Path, output: Path) -> None:
    """Writes graph.onnx, without weights, and weights.json, each constant's parameter and whether it is turned."""
    from safetensors.numpy import load_file

    from vitrify.artifacts import Artifact
    from vitrify.graphs import embed_spec

    model, parameters = onnx.load(artifact), load_file(checkpoint)
    embed_spec(model, Artifact.open(artifact).spec)  # without the file's digest, which other weights would belie
    places: dict[str, tuple[str, bool]] = {}
    for constant in model.graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.size < _SMALLEST:
            continue
        for name, parameter in parameters.items():
            same = parameter.size == value.size and np.array_equal(parameter.reshape(-1), value.reshape(-1))
            turned = parameter.ndim == 2 and parameter.T.shape == value.shape and np.array_equal(parameter.T, value)
            if same or turned:
                places[constant.name] = name, not same
                constant.ClearField("raw_data")
                break
        else:
            sys.exit(f"{constant.name} {value.shape} is none of the checkpoint's weights")
    output.mkdir(exist_ok=True)
    onnx.save(model, output / "graph.onnx")
    (output / "weights.json").write_text(json.dumps(places), encoding="utf-8")


def _random_model(arch: str) -> Any:
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(arch).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.data.add_(torch.randn_like(parameter) * 0.02)
        elif "head" in name:
            parameter.data.normal_(0, 0.05)
    return model


def _fill(graph: Path, model: Any, folder: Path, images: int) -> None:
    """Writes model.onnx, tensors, calibration (16 other tensors) and PyTorch's logits in fp32."""
    import torch

    proto, places = onnx.load(graph / "graph.onnx"), json.loads((graph / "weights.json").read_text(encoding="utf-8"))
    parameters = model.state_dict()
    for constant in proto.graph.initializer:
        if constant.name in places:
            name, turned = places[constant.name]
            value = parameters[name].T if turned else parameters[name]
            constant.raw_data = value.contiguous().cpu().numpy().astype(np.float32).tobytes()
    onnx.save(proto, folder / "model.onnx")
    size = proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    generator = torch.Generator().manual_seed(1)
    tensors = torch.randn(images, 3, size, size, generator=generator)
    torch.randn(16, 3, size, size, generator=generator).numpy().tofile(folder / "calibration.f32")
    model.to("cuda")
    with torch.inference_mode():
        logits = torch.cat([model(part.to("cuda")) for part in tensors.split(64)]).float().cpu()
    tensors.numpy().tofile(folder / "tensors.f32")
    logits.numpy().tofile(folder / "logits.f32")


def _milliseconds(call: Any, repeats: int) -> float:
    import torch

    times = []
    for turn in range(10):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        if turn:
            times.append(begin.elapsed_time(end) / repeats)
    return float(np.median(times))


def _pytorch(model: Any, folder: Path, batch: int, *, compiled: bool) -> dict[str, Any]:
    import torch

    size = int(model.patch_embed.img_size[0])
    tensors = np.fromfile(folder / "tensors.f32", np.float32, count=batch * 3 * size * size)
    expected = np.fromfile(folder / "logits.f32", np.float32).reshape(-1, model.num_classes)[:batch]
    called = torch.compile(model, mode="max-autotune", dynamic=False) if compiled else model
    images = torch.from_numpy(tensors.reshape(batch, 3, size, size)).half().to("cuda")
    with torch.inference_mode():
        got = called(images).float().cpu().numpy().copy()
        milliseconds = _milliseconds(lambda: called(images), max(5, 768 // batch))
    return {
        "engine": "torch.compile max-autotune" if compiled else "torch eager",
        "precision": "fp16",
        "batch": batch,
        "ms": round(milliseconds, 4),
        "images_per_s": round(batch / milliseconds * 1e3),
        "relative_error": round(float(np.linalg.norm(got - expected) / np.linalg.norm(expected)), 5),
        "top1_agreement": round(float((got.argmax(1) == expected.argmax(1)).mean()), 4),
    }


def _engine(command: list[str], folder: Path) -> list[dict[str, Any]]:
    answer = subprocess.run(
        command,
        env=os.environ
        | {"VITRIFY_CALIBRATION": str(folder / "calibration.f32"), "VITRIFY_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        sys.exit(answer.stderr)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def run(options: argparse.Namespace) -> None:
    """Runs all of it, printing each row, and writes the result after every step: a time limit loses the rest alone."""
    import timm
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "cache", ignore_errors=True)  # of tunings: the first start is to find none
    model = _random_model(options.arch)
    _fill(options.graph, model, folder, max(options.batches))
    environment = {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        "processor": torch.cuda.get_device_name(),
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "torch's CUDA": torch.version.cuda},
        "model": f"{options.arch}, random weights with a spread head",
    }
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        print(json.dumps(row), flush=True)
        text = json.dumps({"environment": environment, "rows": rows}, indent=1)
        options.output.write_text(text + "\n", encoding="utf-8")

    for precision in ("fp16", "fp8"):
        command = [
            options.program.resolve(),
            *(folder / name for name in ("model.onnx", "tensors.f32", "logits.f32")),
            precision,
        ]
        # The largest batch last: it warms the GPU up to its power's limit.
        first, second = (_engine([*map(str, command), *map(str, sorted(options.batches))], folder) for _ in range(2))
        for row, again in zip(first, second, strict=True):
            add(row | {"ms_again": again["ms"], "tune_again_s": again["tune_s"]})
    half = model.half()
    for batch in options.batches:
        add(_pytorch(half, folder, batch, compiled=False))
    for batch in options.compiled:
        add(_pytorch(half, folder, batch, compiled=True))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("strip", help="an artifact's graph without its weights")
    one.add_argument("artifact", type=Path)
    one.add_argument("checkpoint", type=Path)
    one.add_argument("-o", "--output", type=Path, required=True)
    one.set_defaults(call=lambda options: strip(options.artifact, options.checkpoint, options.output))
    two = commands.add_parser("run", help="times and errors on this machine's GPU")
    two.add_argument("graph", type=Path)
    two.add_argument("--arch", required=True)
    two.add_argument(
        "--program", type=lambda text: Path(text).resolve(), required=True, help="cuda_engine, of the build"
    )
    two.add_argument("--folder", type=Path, default=Path("build/cuda-engine"), help="for weights and tensors")
    two.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256])
    two.add_argument("--compiled", type=int, nargs="*", default=[], help="batches of torch.compile: minutes each")
    two.add_argument("-o", "--output", type=Path, required=True)
    two.set_defaults(call=run)
    options = parser.parse_args()
    options.call(options)


if __name__ == "__main__":
    main()
