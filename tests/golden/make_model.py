"""Makes tiny.onnx, the artifact that the C++ tests load, and tiny.json, its spec: `python -m tests.golden.make_model`.

Random weights, one block of width 16 and labels that are no ASCII. Remade only when the
format of the spec changes, since the record holds a date and versions.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn

from tests.conftest import tiny_spec
from vitrify.artifacts import read_spec
from vitrify.checkpoints import save_checkpoint
from vitrify.spec import Source
from vitrify.workflows.export import onnx_from_checkpoint

GOLDEN = Path(__file__).parent
ARCHITECTURE = "vit_tiny_patch16_224"
KWARGS: dict[str, Any] = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 16, "num_heads": 2}
LABELS = ("daisy", "löwenzahn", "バラ", "подсолнух", "tulip 🌷", 'a "quoted" label')


def main() -> None:
    torch.manual_seed(0)
    model = timm.create_model(ARCHITECTURE, num_classes=len(LABELS), **KWARGS)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    small = tiny_spec(LABELS)
    spec = small.replace(
        preprocess=replace(small.preprocess, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        source=Source(architecture=ARCHITECTURE, model_kwargs=dict(KWARGS), created_by="tests/golden/make_model.py"),
    )
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        images = [Path(folder) / f"{number:02d}.png" for number in range(32)]
        for path in images:
            coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
            coarse.resize((48, 40), Image.Resampling.BICUBIC).save(path)
        checkpoint = Path(folder) / "tiny.safetensors"
        save_checkpoint(checkpoint, model.eval(), spec)
        onnx_from_checkpoint(checkpoint, GOLDEN / "tiny.onnx", images=images)
    (GOLDEN / "tiny.json").write_text(read_spec(GOLDEN / "tiny.onnx").to_json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
