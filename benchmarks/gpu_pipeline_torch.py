"""PyTorch's contenders of `benchmarks/gpu_pipeline.py`: torchvision's decoder on the GPU, and timm's DataLoader."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from vitrify.checkpoints import load_checkpoint


class Models:
    """The network: eager in fp32 as the truth, and compiled in fp16.

    Args:
        checkpoint: vitrify's own.
        batch: Images in one inference.
        compiled: Or eager in fp16.
    """

    def __init__(self, checkpoint: Path, batch: int, *, compiled: bool) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device_name = torch.cuda.get_device_name() if self.device.type == "cuda" else platform_name()
        loaded = load_checkpoint(checkpoint)
        self.preprocess = loaded.spec.preprocess
        self.exact = loaded.model.eval().to(self.device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        half = load_checkpoint(checkpoint).model.eval().to(self.device, self.dtype)
        self.name = "torch.compile max-autotune" if compiled else "torch eager"
        self.model: Callable[[Any], Any] = torch.compile(half, mode="max-autotune", dynamic=False) if compiled else half
        self.batch = batch
        self.versions = {"torch": torch.__version__, "timm": timm.__version__}

    def transform(self) -> Any:
        """The evaluation transform of timm for the spec."""
        spec = self.preprocess
        return create_transform(
            (3, spec.crop_height, spec.crop_width),
            interpolation=spec.interpolation,
            mean=spec.mean,
            std=spec.std,
            # timm divides and rounds down: the thousandth keeps the size that is meant.
            crop_pct=spec.crop_height / (spec.resize_height + 1e-3),
        )

    def reference(self, files: list[str]) -> np.ndarray[Any, Any]:
        """What timm's transform and the exact model give."""
        transform = self.transform()
        with torch.inference_mode():
            rows = [
                self.exact(torch.stack([transform(Image.open(file).convert("RGB")) for file in part]).to(self.device))
                for part in (files[at : at + self.batch] for at in range(0, len(files), self.batch))
            ]
            return torch.cat(rows).double().cpu().numpy()

    def infer(self, tensors: Any) -> Any:
        """Logits of a full batch, on the device; another call may overwrite what `torch.compile` gave."""
        return self.model(tensors.to(self.device, self.dtype, non_blocking=True)).float().clone()


def platform_name() -> str:
    """The processor's name."""
    from vitrify.machine import processor_name

    return processor_name()


class Pipelined:
    """Batches whose answers are fetched one batch later, so that the device does not wait for the host."""

    name: str
    pixels: str

    def __init__(self, models: Models) -> None:
        self._models = models

    def batches(self, files: list[str]) -> Iterator[Any]:
        """Endless full batches of tensors, the files in turn, from the first one on."""
        raise NotImplementedError

    def logits(self, files: list[str]) -> np.ndarray[Any, Any]:
        """Of each file."""
        rows: list[Any] = []
        with torch.inference_mode():
            for tensors in self.batches(files):
                rows += self._models.infer(tensors).double().cpu()
                if len(rows) >= len(files):
                    return torch.stack(rows[: len(files)]).numpy()
        raise RuntimeError("no batches")

    def time(self, files: list[str], seconds: float) -> dict[str, Any]:
        """Once the readers' stock is used up."""
        done: list[float] = []
        latencies: list[float] = []
        waiting: tuple[float, Any, Any] | None = None
        stock = self.stock()
        with torch.inference_mode():
            asked = time.perf_counter()
            for number, tensors in enumerate(self.batches(files)):
                answer = self._models.infer(tensors)
                host = answer.to("cpu", non_blocking=True)
                event = torch.cuda.Event() if self._models.device.type == "cuda" else None
                if event is not None:
                    event.record()
                if waiting is not None:
                    if waiting[2] is not None:
                        waiting[2].synchronize()
                    done.append(time.perf_counter())
                    latencies.append(1e3 * (done[-1] - waiting[0]))
                    if number > stock + 1 and done[-1] - done[stock] > seconds:
                        break
                waiting = (asked, host, event)
                asked = time.perf_counter()
            if self._models.device.type == "cuda":
                torch.cuda.synchronize()
        kept = sorted(latencies[stock + 1 :])
        return {
            "images_per_s": self._models.batch * (len(done) - 1 - stock) / (done[-1] - done[stock]),
            "latency_ms_p50": statistics.median(kept),
            "latency_ms_p99": kept[int(0.99 * (len(kept) - 1))],
        }

    def stock(self) -> int:
        """Batches that are ready before the clock starts."""
        return 2


class OnDevice(Pipelined):
    """torchvision's `decode_jpeg` and transforms on the GPU, and the compiled model; threads read the files."""

    def __init__(self, models: Models, threads: int) -> None:
        super().__init__(models)
        import torchvision
        from torchvision.io import ImageReadMode, decode_jpeg
        from torchvision.transforms.v2 import functional

        self.name, self.pixels = f"torchvision decode_jpeg and transforms, {models.name}", "gpu"
        self._pool = ThreadPoolExecutor(threads)
        self._decode, self._mode, self._f = decode_jpeg, ImageReadMode.RGB, functional
        models.versions["torchvision"] = torchvision.__version__
        if models.device.type != "cuda":
            raise RuntimeError("torchvision decodes on a GPU, and there is none")

    def batches(self, files: list[str]) -> Iterator[Any]:
        """The next batch is read while one is decoded."""
        cycle = itertools.cycle(files)
        ahead: list[list[Future[Any]]] = []
        while True:
            while len(ahead) < 2:
                part = itertools.islice(cycle, self._models.batch)
                ahead.append([self._pool.submit(self._read, file) for file in part])
            yield self._prepare(self._decoded([future.result() for future in ahead.pop(0)]))

    def _read(self, file: str) -> Any:
        return torch.from_numpy(np.fromfile(file, np.uint8))

    def _decoded(self, encoded: list[Any]) -> list[Any]:
        found: list[Any] = self._decode(encoded, mode=self._mode, device="cuda")
        return found

    def _prepare(self, images: list[Any]) -> Any:
        spec, f = self._models.preprocess, self._f
        # Pictures of one size go through in one piece, which a folder of photographs would not.
        batch = torch.stack(images)
        height, width = batch.shape[2:]
        scale = spec.resize_height / min(height, width)
        size = [int(height * scale), int(width * scale)]
        batch = f.resize(batch, size, f.InterpolationMode.BICUBIC, antialias=True)
        batch = f.center_crop(batch, [spec.crop_height, spec.crop_width])
        return f.normalize(batch.to(self._models.dtype) / 255, list(spec.mean), list(spec.std))

    def stages(self, files: list[str]) -> dict[str, float]:
        """Of batches one after the other."""
        found: list[list[float]] = []
        for _ in range(8):
            marks = [time.perf_counter()]

            def mark(marks: list[float] = marks) -> None:
                torch.cuda.synchronize()
                marks.append(time.perf_counter())

            with torch.inference_mode():
                part = list(itertools.islice(itertools.cycle(files), self._models.batch))
                encoded = list(self._pool.map(self._read, part))
                mark()
                images = self._decoded(encoded)
                mark()
                tensors = self._prepare(images)
                mark()
                self._models.infer(tensors)
                mark()
            found.append([1e3 * (later - sooner) for sooner, later in itertools.pairwise(marks)])
        names = ("read", "decode", "transform", "infer")
        return {
            name: statistics.median(column) for name, column in zip(names, zip(*found[2:], strict=True), strict=True)
        }


class Pictures(torch.utils.data.Dataset[Any]):
    """Files over and over, through timm's transform."""

    def __init__(self, files: list[str], transform: Any) -> None:
        self._files, self._transform = files, transform

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, index: int) -> Any:
        with Image.open(self._files[index % len(self._files)]) as image:
            return self._transform(image.convert("RGB"))


class Loader(Pipelined):
    """timm's `create_transform` in a DataLoader's processes, and the compiled model."""

    def __init__(self, models: Models, threads: int) -> None:
        super().__init__(models)
        self.name, self.pixels = f"timm create_transform, DataLoader, {models.name}", "cpu"
        self._workers = threads
        self._open: dict[str, Iterator[Any]] = {}

    def batches(self, files: list[str]) -> Iterator[Any]:
        """The processes of a set of files live on between rounds, and are ahead by `stock` batches then."""
        if files[0] not in self._open:
            self.close()
            loader = torch.utils.data.DataLoader(
                Pictures(files, self._models.transform()),
                batch_size=self._models.batch,
                sampler=range(1 << 30),
                num_workers=self._workers,
                prefetch_factor=2,
                pin_memory=self._models.device.type == "cuda",
            )
            self._open[files[0]] = iter(loader)
        return self._open[files[0]]

    def stock(self) -> int:
        """What the processes have ready when a round begins."""
        return 2 * self._workers

    def stages(self, files: list[str]) -> dict[str, float]:
        """Of one process, an image, and of the network."""
        transform = self._models.transform()
        start = time.perf_counter()
        images = [transform(Image.open(file).convert("RGB")) for file in files[:8]]
        middle = time.perf_counter()
        tensors = torch.stack(images)[:1].expand(self._models.batch, -1, -1, -1).contiguous()
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            with torch.inference_mode():
                self._models.infer(tensors).cpu()
            times.append(1e3 * (time.perf_counter() - begin))
        return {"an image in one process": 1e3 * (middle - start) / len(images), "infer": statistics.median(times)}

    def close(self) -> None:
        """Ends the processes."""
        self._open.clear()
