"""timm's transform and the resize alone on pillow-simd, which takes Pillow's place and so needs a process of its own.

benchmarks/pixels.py starts it with `.venv-simd/bin/python` (scripts/bench makes that), listens at the address that it
passes, and sends requests. The worker times itself, so that moving pictures between the processes costs it nothing.

    {"task": "tensor" or "resize", "data": JPEG bytes, "copies": images at once, "threads": int,
     "crop", "crop_pct", "mean", "std": of the transform, "size": (width, height) of the resize}
    -> (milliseconds, the first image's result)
"""

from __future__ import annotations

import importlib.metadata
import io
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client
from typing import Any

import numpy as np
from PIL import Image


def tensor_of(request: dict[str, Any]) -> Callable[[], Any]:
    """Bytes to normalised NCHW."""
    import torch
    from timm.data.transforms_factory import create_transform

    torch.set_num_threads(1)
    transform = create_transform(
        input_size=request["crop"],
        interpolation="bicubic",
        mean=request["mean"],
        std=request["std"],
        crop_pct=request["crop_pct"],
    )
    data = request["data"]
    return lambda: transform(Image.open(io.BytesIO(data)).convert("RGB")).numpy()


def resize_of(request: dict[str, Any]) -> Callable[[], Any]:
    """Decoded pixels to resized ones."""
    image = Image.open(io.BytesIO(request["data"])).convert("RGB")
    return lambda: image.resize(request["size"], Image.Resampling.BICUBIC)


TASKS = {"tensor": tensor_of, "resize": resize_of}


def answer(request: dict[str, Any]) -> tuple[float, Any]:
    """Milliseconds, and the first image's result."""
    call = TASKS[request["task"]](request)
    copies = range(request["copies"])
    with ThreadPoolExecutor(request["threads"]) as pool:
        list(pool.map(abs, copies))  # its threads run already, as those of the other peers do
        start = time.perf_counter()
        results = [call()] if len(copies) == 1 else list(pool.map(lambda _: call(), copies))
        milliseconds = (time.perf_counter() - start) * 1e3
    return milliseconds, np.asarray(results[0])


def main(address: str) -> None:
    """Answers requests until there are no more."""
    with Client(address) as connection:
        connection.send(importlib.metadata.version("pillow-simd"))
        while True:
            try:
                request = connection.recv()
            except EOFError:
                return
            connection.send(answer(request))


if __name__ == "__main__":
    main(sys.argv[1])
