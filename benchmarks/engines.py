"""TensorRT beside PyTorch on one GPU: eager, torch.compile, and vitrify's runtime over built engines.

    python benchmarks/engines.py make CHECKPOINT.safetensors        # ViT-B/16, 5 classes, random weights
    vitrify export CHECKPOINT.safetensors -o vit.onnx                # --opset 16 for TensorRT 8.5
    vitrify build vit.onnx -o vit-fp16.engine --precision fp16 --profile 1:8:64      # one profile at a time
    python benchmarks/engines.py run CHECKPOINT.safetensors vit-fp16.engine … --output results.json

With `--onnx`, ONNX Runtime's CUDA provider runs those files beside them (onnxruntime-gpu, in this Python).

TensorRT runs in a process of its own (`--python`, where its Python is another one), which this one leads step by step:
the contenders take turns, a round each, so that a drifting clock meets all. A call is timed from its start to the end
of the wait for its result. *device*: float32 images on the GPU, logits on the GPU. *copies*: a float32 array in, one
out. The relative error is the largest over all rows of max |logits - reference| / max |reference|, against eager fp32
with TF32 off.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from worker_process import Worker, add_options, variables

WORKER = Path(__file__).with_name("engines_worker.py")
ARCHITECTURE, CLASSES = "vit_base_patch16_224", 5


class Contender(Protocol):
    """One way to run the model."""

    name: str
    precision: str

    def logits(self, batch: int) -> np.ndarray[Any, Any]:
        """What it answers to the first `batch` images, `[batch, classes]`."""

    def time(self, batch: int, calls: int) -> list[float]:
        """Milliseconds of each call."""


class Torch:
    """A PyTorch contender: a function from the batch on the GPU, or from a host array with its copies."""

    def __init__(self, name: str, precision: str, run: Callable[[Any], Any], images: Any, *, copies: bool) -> None:
        self.name, self.precision = name, precision
        self._run, self._images, self._copies = run, images, copies
        self._warm: set[int] = set()

    def _call(self, batch: int) -> Any:
        import torch

        with torch.inference_mode():
            if self._copies:
                return self._run(self._host(batch).to("cuda", non_blocking=True)).cpu()
            answer = self._run(self._device(batch))
            torch.cuda.synchronize()
            return answer

    def _host(self, batch: int) -> Any:
        return self._images[0][:batch]

    def _device(self, batch: int) -> Any:
        return self._images[1][:batch]

    def logits(self, batch: int) -> np.ndarray[Any, Any]:
        """Warm, and then once more."""
        for _ in range(0 if batch in self._warm else 5):
            self._call(batch)
        self._warm.add(batch)
        return self._call(batch).float().cpu().numpy().astype(np.float64)

    def time(self, batch: int, calls: int) -> list[float]:
        """Milliseconds of each call."""
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            self._call(batch)
            times.append(1e3 * (time.perf_counter() - start))
        return times


class TensorRt:
    """A contender in the worker."""

    def __init__(self, worker: Worker, way: str, precision: str) -> None:
        self.name = f"TensorRT, {way.rpartition(' ')[0]}"
        self.precision = precision
        self._worker, self._way = worker, way

    def logits(self, batch: int) -> np.ndarray[Any, Any]:
        """What the engine answers."""
        asked = self._worker.ask(do="logits", way=self._way, precision=self.precision, batch=batch)
        return np.asarray(asked["logits"])

    def time(self, batch: int, calls: int) -> list[float]:
        """Milliseconds of each call, as the worker's own clock has them."""
        asked = self._worker.ask(do="time", way=self._way, precision=self.precision, batch=batch, calls=calls)
        return [float(ms) for ms in asked["ms"]]


def make(path: Path) -> None:
    """Writes ViT-B/16 with random weights as a checkpoint of vitrify's own."""
    import timm
    import torch

    from vitrify.checkpoints import save_checkpoint
    from vitrify.spec import InputSpec, ModelSpec, Preprocess, Source

    torch.manual_seed(0)
    model = timm.create_model(ARCHITECTURE, num_classes=CLASSES).eval()
    # timm's head starts at almost nothing; logits of the usual size make a relative error mean something.
    torch.nn.init.normal_(model.head.weight, std=0.05)
    spec = ModelSpec(
        input=InputSpec(height=224, width=224),
        preprocess=Preprocess.from_timm(timm.data.resolve_model_data_config(model)),
        labels=tuple(f"class {index}" for index in range(CLASSES)),
        source=Source(architecture=ARCHITECTURE, model_kwargs={}, created_by="benchmarks/engines.py"),
    )
    save_checkpoint(path, model, spec)
    print(f"wrote {path}")


def torch_contenders(checkpoint: Path, images: np.ndarray[Any, Any], *, compiled: bool) -> list[tuple[str, Contender]]:
    """(where, contender): eager in fp32 and fp16, and torch.compile(mode="max-autotune") in fp16."""
    import torch

    from vitrify.checkpoints import load_checkpoint

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    host = torch.from_numpy(images).pin_memory()
    tensors = (host, host.cuda())
    exact = load_checkpoint(checkpoint).model.eval().cuda()
    half = load_checkpoint(checkpoint).model.eval().cuda().half()
    tuned = torch.compile(half, mode="max-autotune", dynamic=False)
    ways: list[tuple[str, str, Callable[[Any], Any]]] = [
        ("torch eager", "fp32", exact),
        ("torch eager", "fp16", lambda x: half(x.half()).float()),
    ]
    if compiled:
        ways.append(("torch.compile max-autotune", "fp16", lambda x: tuned(x.half()).float()))
    return [
        (where, Torch(name, precision, run, tensors, copies=where == "copies"))
        for name, precision, run in ways
        for where in ("device", "copies")
    ]


class OnnxRuntimeCuda(Torch):
    """ONNX Runtime's CUDA provider on an ONNX file, with PyTorch's memory as its input and output."""

    def __init__(self, path: Path, images: Any, *, copies: bool) -> None:
        import onnxruntime
        import torch

        from vitrify.artifacts import read_spec

        onnxruntime.preload_dlls()  # PyTorch's CUDA and cuDNN
        provider = ("CUDAExecutionProvider", {"use_tf32": "0"})
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=[provider])
        if "CUDAExecutionProvider" not in session.get_providers():
            raise OSError("ONNX Runtime did not load its CUDA provider")
        given, made = session.get_inputs()[0].name, session.get_outputs()[0].name

        def on_device(batch: Any) -> Any:
            binding = session.io_binding()
            batch = batch.contiguous()
            out = torch.empty((batch.shape[0], CLASSES), dtype=torch.float32, device="cuda")
            for bind, name, tensor in ((binding.bind_input, given, batch), (binding.bind_output, made, out)):
                bind(name, "cuda", 0, np.float32, tuple(tensor.shape), tensor.data_ptr())
            session.run_with_iobinding(binding)
            return out

        super().__init__("ONNX Runtime CUDA", read_spec(path).precision, on_device, images, copies=copies)
        self._session, self._names = session, (given, made)

    def _call(self, batch: int) -> Any:
        if not self._copies:
            return super()._call(batch)
        import torch

        found = self._session.run([self._names[1]], {self._names[0]: self._host(batch).numpy()})
        return torch.from_numpy(found[0])


def onnxruntime_contenders(files: list[Path], images: np.ndarray[Any, Any]) -> list[tuple[str, Contender]]:
    """(where, contender) for each ONNX file."""
    import torch

    host = torch.from_numpy(images).pin_memory()
    tensors = (host, host.cuda())
    return [
        (where, OnnxRuntimeCuda(path, tensors, copies=where == "copies"))
        for path in files
        for where in ("device", "copies")
    ]


def tensorrt_contenders(worker: Worker, precisions: list[str]) -> list[tuple[str, Contender]]:
    """(where, contender): the runner with and without CUDA graphs, and the bare loops that it is held to."""
    ways = ("runner graph device", "runner plain device", "bare graph device", "bare plain device")
    ways += ("runner graph copies", "runner plain copies")
    return [(way.split()[-1], TensorRt(worker, way, precision)) for precision in precisions for way in ways]


def measure(
    contenders: list[tuple[str, Contender]],
    batches: list[int],
    *,
    rounds: int,
    budget_s: float,
    save: Callable[..., None],
) -> list[dict[str, Any]]:
    """Each batch size in turn; in every round each contender is called for its share of the time."""
    rows: list[dict[str, Any]] = []
    for batch in batches:
        reference = contenders[0][1].logits(batch)
        able = []
        for where, contender in contenders:
            try:
                answer = contender.logits(batch)
            except Exception as error:  # an engine without this batch, or no memory: its row says so
                rows.append(_row(contender, where, batch, error=str(error).partition("\n")[0]))
                continue
            scale = np.abs(reference).max(axis=1, keepdims=True)
            relative = float((np.abs(answer - reference) / scale).max())
            once = statistics.median(contender.time(batch, 5))
            calls = max(3, min(200, int(1e3 * budget_s / rounds / once)))
            able.append((where, contender, relative, calls, list[float]()))
        for _ in range(rounds):
            for _, contender, _, calls, times in able:
                times.extend(contender.time(batch, calls))
        for where, contender, relative, _, times in able:
            times.sort()
            median = statistics.median(times)
            rows.append(
                _row(
                    contender,
                    where,
                    batch,
                    latency_ms_p50=round(median, 4),
                    latency_ms_p99=round(times[int(0.99 * (len(times) - 1))], 4),
                    images_per_s=round(1e3 * batch / median, 1),
                    relative_error=float(f"{relative:.2g}"),
                    calls=len(times),
                )
            )
            print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
        save(rows)
    return rows


def _row(contender: Contender, where: str, batch: int, **measured: Any) -> dict[str, Any]:
    return {"case": where, "runtime": contender.name, "precision": contender.precision, "batch": batch, **measured}


def run(arguments: argparse.Namespace) -> None:
    """Times everything and writes one JSON file, anew after each batch size."""
    import timm
    import torch

    worker = Worker(WORKER, arguments.python, variables(arguments))
    opened = worker.ask(do="open", engines=[str(engine) for engine in arguments.engines])
    precisions = sorted({engine["precision"] for engine in opened["engines"]})
    side = arguments.side
    images = np.random.default_rng(0).standard_normal((max(arguments.batches), 3, side, side), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        worker.ask(do="inputs", path=str(Path(folder) / "images.npy"))
    contenders = torch_contenders(arguments.checkpoint, images, compiled=not arguments.no_compile)
    contenders += onnxruntime_contenders(arguments.onnx, images)
    contenders += tensorrt_contenders(worker, precisions)
    engines = opened.pop("engines")
    where = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": opened.pop("device"),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "torch's CUDA": torch.version.cuda,
            **({"onnxruntime-gpu": importlib.metadata.version("onnxruntime-gpu")} if arguments.onnx else {}),
            **opened,
        },
        "model": arguments.checkpoint.name,
        "engines": engines,
    }

    def save(rows: list[dict[str, Any]]) -> None:
        arguments.output.write_text(json.dumps({"environment": where, "rows": rows}, indent=1) + "\n", encoding="utf-8")

    measure(contenders, arguments.batches, rounds=arguments.rounds, budget_s=arguments.seconds, save=save)
    print(f"wrote {arguments.output}")


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("checkpoint", type=Path)
    timed = commands.add_parser("run")
    timed.add_argument("checkpoint", type=Path)
    timed.add_argument("engines", type=Path, nargs="+")
    timed.add_argument("--onnx", type=Path, nargs="+", default=[], help="files for ONNX Runtime's CUDA provider")
    timed.add_argument("--output", type=Path, required=True)
    timed.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256])
    timed.add_argument("--side", type=int, default=224, help="image side in pixels")
    timed.add_argument("--rounds", type=int, default=5)
    timed.add_argument("--seconds", type=float, default=1.5, help="for each contender at each batch size")
    timed.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it tunes for minutes")
    add_options(timed)
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.checkpoint)
    else:
        run(arguments)


if __name__ == "__main__":
    main()
