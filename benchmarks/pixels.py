"""JPEG bytes in, NCHW float32 out: vitrify's pixel core against what people use today.

    scripts/bench pixels

Three sizes, one core and all. The pictures are mosaics of scikit-learn's two sample photos at their own resolution, so
that a 12-megapixel file has the detail, and so the Huffman codes, of a 12-megapixel photo. Reference: timm's evaluation
transform of a ViT-B/16 on Pillow's pixels. OpenCV and Albumentations resize in another way (area averaging), and say so
in their error. pillow-simd replaces Pillow, so it runs in a process of its own, which takes its turn like the others.
"""

from __future__ import annotations

import functools
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import numpy as np
from harness import cores, environment, write_results
from PIL import Image
from sklearn.datasets import load_sample_images

SIZES = ((500, 375), (1920, 1080), (4032, 3024))
MEAN = STD = (0.5, 0.5, 0.5)
CROP, CROP_PCT = 224, 0.9
SIDE = int(CROP / CROP_PCT)

Peer = Callable[[bytes], Any]
Call = Callable[[], float]
"""Does its work and gives the milliseconds that it took."""


def mosaic(width: int, height: int) -> bytes:
    """A JPEG of quality 90, 4:2:0, tiled from mirrored photos so that no seam is visible."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    canvas = Image.new("RGB", (width, height))
    for row, y in enumerate(range(0, height, photos[0].height)):
        for column, x in enumerate(range(0, width, photos[0].width)):
            tile = photos[(row + column) // 2 % 2]
            tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if column % 2 else tile
            canvas.paste(tile.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if row % 2 else tile, (x, y))
    buffer = io.BytesIO()
    canvas.save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


def peers() -> dict[str, Peer]:
    """Each way from bytes to `[3, 224, 224]` float32; those that are not installed are left out."""
    import torch
    from timm.data.transforms_factory import create_transform

    from vitrify.pixels import preprocess
    from vitrify.spec import Preprocess

    torch.set_num_threads(1)
    spec = Preprocess(
        resize_rule="shortest",
        resize_height=SIDE,
        resize_width=SIDE,
        crop_height=CROP,
        crop_width=CROP,
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
    )
    timm_transform = create_transform(input_size=CROP, interpolation="bicubic", mean=MEAN, std=STD, crop_pct=CROP_PCT)
    found: dict[str, Peer] = {
        "timm + Pillow": lambda data: timm_transform(Image.open(io.BytesIO(data)).convert("RGB")).numpy(),
        "vitrify": lambda data: preprocess([data], spec, threads=1)[0],
        "vitrify, an image on every core": lambda data: preprocess([data], spec, threads=cores())[0],
        "vitrify fast_decode": lambda data: preprocess([data], spec, threads=1, fast_decode=True)[0],
    }
    found |= _torchvision() | _opencv() | _albumentations()
    return found


def _torchvision() -> dict[str, Peer]:
    try:
        import torch
        from torchvision.io import decode_jpeg
        from torchvision.transforms import v2
    except ImportError:
        return {}
    transform = v2.Compose(
        [
            v2.Resize(SIDE, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(CROP),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return {
        "torchvision (uint8)": lambda data: transform(
            decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        ).numpy()
    }


def _opencv() -> dict[str, Peer]:
    try:
        import cv2
    except ImportError:
        return {}
    cv2.setNumThreads(1)

    def run(data: bytes) -> np.ndarray[Any, Any]:
        rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        height, width = rgb.shape[:2]
        scale = SIDE / min(height, width)
        rgb = cv2.resize(rgb, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_AREA)
        top, left = (rgb.shape[0] - CROP) // 2, (rgb.shape[1] - CROP) // 2
        crop = rgb[top : top + CROP, left : left + CROP].astype(np.float32)
        return np.ascontiguousarray(((crop / 255 - 0.5) / 0.5).transpose(2, 0, 1))

    return {"OpenCV (area)": run}


def _albumentations() -> dict[str, Peer]:
    try:
        import albumentations
        import cv2
    except ImportError:
        return {}
    transform = albumentations.Compose(
        [
            albumentations.SmallestMaxSize(max_size=SIDE, interpolation=cv2.INTER_AREA),
            albumentations.CenterCrop(CROP, CROP),
            albumentations.Normalize(MEAN, STD),
        ]
    )

    def run(data: bytes) -> np.ndarray[Any, Any]:
        rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return np.ascontiguousarray(transform(image=rgb)["image"].transpose(2, 0, 1))

    return {"Albumentations (area)": run}


class PillowSimd:
    """The process that has pillow-simd in Pillow's place; see pillow_simd.py."""

    python = Path(__file__).parent.parent / ".venv-simd" / "bin" / "python"

    def __init__(self) -> None:
        """Starts it and asks for its version."""
        worker = Path(__file__).with_name("pillow_simd.py")
        with Listener(family="AF_UNIX") as listener:
            subprocess.Popen([self.python, worker, str(listener.address)])  # ends with its connection
            self._connection = listener.accept()
        self.version: str = self._connection.recv()

    def ask(self, task: str, data: bytes, *, copies: int = 1, **options: Any) -> tuple[float, Any]:
        """Milliseconds, and the result of the first of the copies."""
        request = {"task": task, "data": data, "copies": copies, "threads": min(copies, cores()), **options}
        self._connection.send(request | {"crop": CROP, "crop_pct": CROP_PCT, "mean": MEAN, "std": STD})
        answer: tuple[float, Any] = self._connection.recv()
        return answer

    def call(self, task: str, data: bytes, **options: Any) -> Call:
        """The time alone, by the worker's own clock."""
        return lambda: self.ask(task, data, **options)[0]


def timed(function: Callable[..., Any], *arguments: Any) -> Call:
    """A function's time by this process's clock."""

    def call() -> float:
        start = time.perf_counter()
        function(*arguments)
        return (time.perf_counter() - start) * 1e3

    return call


def mapped(pool: ThreadPoolExecutor, peer: Peer, batch: list[bytes]) -> list[Any]:
    """A whole batch through one peer, an image a thread."""
    return list(pool.map(peer, batch))


def interleaved(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Median milliseconds of each call; every round runs them all, every other round backwards."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in reversed(calls) if number % 2 else calls:
            milliseconds = calls[name]()
            if number:  # the first round warms up
                times[name].append(milliseconds)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measures every size and peer, then the resize alone."""
    everyone = peers()
    simd = PillowSimd() if PillowSimd.python.exists() else None
    if simd is not None:
        everyone["timm + pillow-simd"] = lambda data: simd.ask("tensor", data)[1]
    rows = []
    for width, height in SIZES:
        data = mosaic(width, height)
        rounds = {500: 60, 1920: 25, 4032: 12}[width]
        reference = everyone["timm + Pillow"](data)
        calls = {name: timed(peer, data) for name, peer in everyone.items()}
        with ThreadPoolExecutor(cores()) as pool:
            batch = [data] * (2 * cores())
            batches = {name: timed(mapped, pool, peer, batch) for name, peer in everyone.items()}
            if simd is not None:
                calls["timm + pillow-simd"] = simd.call("tensor", data)
                batches["timm + pillow-simd"] = simd.call("tensor", data, copies=len(batch))
            one = interleaved(calls, rounds)
            every = interleaved(batches, max(5, rounds // 3))
        for name, peer in everyone.items():
            error = np.abs(peer(data) - reference) * 127.5  # back in units of a pixel's 256 levels
            rows.append(
                {
                    "case": "jpeg bytes to tensor",
                    "size": f"{width}x{height}",
                    "file_bytes": len(data),
                    "runtime": name,
                    "latency_ms": round(one[name], 3),
                    "times_timm": round(one["timm + Pillow"] / one[name], 2),
                    "images_per_s_all_cores": round(len(batch) * 1e3 / every[name], 1),
                    "times_timm_all_cores": round(every["timm + Pillow"] / every[name], 2),
                    "max_error_levels": round(float(error.max()), 2),
                    "mean_error_levels": round(float(error.mean()), 3),
                }
            )
    rows += resize_rows(simd)
    where = environment()
    if simd is not None:
        where["versions"]["pillow-simd"] = simd.version
    write_results("pixels", rows, where)


def resize_rows(simd: PillowSimd | None) -> list[dict[str, Any]]:
    """The resize alone, decoded pixels to decoded pixels, every kernel against Pillow."""
    from vitrify import _native
    from vitrify.pixels import resize

    rows = []
    for width, height in SIZES:
        data = mosaic(width, height)
        image = Image.open(io.BytesIO(data)).convert("RGB")
        rgb = np.asarray(image)
        target = (int(SIDE * width / height), SIDE)

        def with_kernels(name: str, rgb: Any = rgb, target: tuple[int, int] = target) -> Any:
            _native.use_kernels(name)
            return resize(rgb, target, "bicubic")

        ways: dict[str, Callable[[], Any]] = {
            "Pillow": lambda image=image, target=target: image.resize(target, Image.Resampling.BICUBIC)
        }
        for kernels in _native.available_kernels():
            ways[f"vitrify {kernels}"] = functools.partial(with_kernels, kernels)
        calls = {name: timed(way) for name, way in ways.items()}
        if simd is not None:
            ways["pillow-simd"] = lambda data=data, target=target: simd.ask("resize", data, size=target)[1]
            calls["pillow-simd"] = simd.call("resize", data, size=target)
        times = interleaved(calls, {500: 60, 1920: 25, 4032: 12}[width])
        want = np.asarray(ways["Pillow"]())
        for name, milliseconds in times.items():
            error = np.abs(np.asarray(ways[name]()).astype(int) - want)
            rows.append(
                {
                    "case": "resize alone",
                    "size": f"{width}x{height}",
                    "runtime": name,
                    "latency_ms": round(milliseconds, 3),
                    "times_pillow": round(times["Pillow"] / milliseconds, 2),
                    "max_error_levels": int(error.max()),
                }
            )
    _native.use_kernels(_native.available_kernels()[0])
    return rows


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
