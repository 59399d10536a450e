"""The models and images of benchmarks/precision.py."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from models import artifact
from PIL import Image
from sklearn.datasets import load_sample_images

from vitrify.artifacts import read_spec
from vitrify.classifier import expand_sources, pick_evenly
from vitrify.pixels import preprocess
from vitrify.workflows.quantize import labelled_images

ROOT = Path(__file__).parent.parent
SCRATCH = ROOT / "build" / "bench" / "precision"
Array = np.ndarray[Any, Any]

FILES = (
    "vitrify int8",
    "onnxruntime static MinMax",
    "onnxruntime static MinMax, products only",
    "onnxruntime static MinMax U8S8",
    "onnxruntime static Percentile",
    "onnxruntime static Entropy",
    "onnxruntime dynamic",
    "NNCF",
    "NNCF without SmoothQuant",
    "NNCF from ONNX",
    "NNCF from ONNX, performance",
    "ModelOpt int8 max",
    "ModelOpt int8 entropy",
    "ModelOpt int8 entropy, fp16 around",
    "ModelOpt AutoCast fp16",
    "timmx int8",
)
"""Recipes of quantizers.py."""

LARGE = frozenset(FILES) - {
    "onnxruntime static Percentile",
    "onnxruntime static Entropy",
    "NNCF without SmoothQuant",
    "NNCF from ONNX",
    "ModelOpt int8 entropy",
    "ModelOpt int8 entropy, fp16 around",
}
"""Those that ViT-B/16 gets: its ranges say nothing, as its weights are random, and each costs half a minute."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model and its images.

    Attributes:
        name: In the tables.
        source: The fp32 ONNX file.
        checkpoint: Its weights.
        calibration: Images that ranges are measured on.
        images: Images that answers are compared on.
        labels: Their class indices, or None.
        files: Which recipes run.
        repeats: Inferences of batch 1 in one turn, so that a turn takes tens of milliseconds.
    """

    name: str
    source: Path
    checkpoint: Path
    calibration: list[Path]
    images: list[Path]
    labels: list[int] | None
    files: tuple[str, ...]
    repeats: int


def digits() -> Task:
    """The trained model of scripts/demo: 256 training images calibrate, the 360 held-out ones judge."""
    source = ROOT / "demo" / "digits.onnx"
    if not source.exists():
        sys.exit("error: no demo/digits.onnx\nhint: scripts/demo")
    images, labels = labelled_images(source, ROOT / "demo" / "digits" / "val", 2000)
    return Task(
        name="digits ViT at 32",
        source=source,
        checkpoint=ROOT / "demo" / "run" / "last.safetensors",
        calibration=[Path(str(path)) for path in pick_evenly(expand_sources((str(ROOT / "demo/digits/train"),)), 256)],
        images=[Path(str(path)) for path in images],
        labels=labels,
        files=FILES,
        repeats=30,
    )


def vit_base() -> Task:
    """ViT-B/16 with random weights, on crops of scikit-learn's two photos: 32 calibrate, 16 others are compared."""
    name = "ViT-B/16 at 224"
    source = artifact(name)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    rng = np.random.default_rng(0)
    paths: list[Path] = []
    folder = SCRATCH / "crops"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(48):
        photo = photos[number % len(photos)]
        side = int(rng.integers(160, min(photo.size)))
        left, top = (int(rng.integers(0, length - side + 1)) for length in photo.size)
        paths.append(folder / f"{number:02}.png")
        photo.crop((left, top, left + side, top + side)).save(paths[-1])
    return Task(
        name=name,
        source=source,
        checkpoint=source.with_suffix(".safetensors"),
        calibration=paths[:32],
        images=paths[32:],
        labels=None,
        files=tuple(name for name in FILES if name in LARGE),
        repeats=1,
    )


def tensors(task: Task, paths: list[Path]) -> Array:
    """`[N, 3, H, W]` float32."""
    spec = read_spec(task.source).preprocess
    return np.concatenate([preprocess(paths[n : n + 8], spec) for n in range(0, len(paths), 8)])


TASKS = {"digits ViT at 32": digits, "ViT-B/16 at 224": vit_base}
