"""Artifacts that several cases run, made once and kept in build/bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "build" / "bench"
MODELS: dict[str, tuple[int, dict[str, Any]]] = {
    "ViT-B/16 at 224": (224, {}),
    "digits ViT at 32": (32, {"patch_size": 4, "depth": 4, "embed_dim": 128, "num_heads": 4}),
}
"""Input side and what makes the model smaller than ViT-B/16; five classes, random weights."""


def artifact(name: str) -> Path:
    """The exported model of that name; its checkpoint lies beside it with the suffix .safetensors."""
    import timm
    import torch

    from vitrify.checkpoints import save_checkpoint
    from vitrify.spec import InputSpec, ModelSpec, Preprocess, Source
    from vitrify.workflows.export import onnx_from_checkpoint

    side, kwargs = MODELS[name]
    path = FOLDER / f"vit-{side}.onnx"
    if path.exists() and path.with_suffix(".safetensors").exists():
        return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    architecture = "vit_base_patch16_224"
    kwargs = {**kwargs, "img_size": side}
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=5, **kwargs).eval()
    spec = ModelSpec(
        input=InputSpec(height=side, width=side),
        preprocess=Preprocess(
            resize_rule="shortest",
            resize_height=side * 248 // 224,
            resize_width=side * 248 // 224,
            crop_height=side,
            crop_width=side,
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        labels=("daisy", "dandelion", "rose", "sunflower", "tulip"),
        source=Source(architecture=architecture, model_kwargs=kwargs, created_by="benchmarks/models.py"),
    )
    save_checkpoint(path.with_suffix(".safetensors"), model, spec)
    onnx_from_checkpoint(path.with_suffix(".safetensors"), path)
    return path


def plain_export(path: Path) -> Path:
    """What people without vitrify run: the same weights by `torch.onnx.export` (dynamo), simplified by onnxslim."""
    import onnx
    import onnxslim

    from vitrify.artifacts import read_spec
    from vitrify.checkpoints import load_checkpoint
    from vitrify.conversion import EXPORTERS, OPSET

    made = path.with_suffix(".plain.onnx")
    if not made.exists():
        model = load_checkpoint(path.with_suffix(".safetensors")).model.eval()
        onnx.save(onnxslim.slim(EXPORTERS["dynamo"](model, read_spec(path), OPSET)), made)
    return made
