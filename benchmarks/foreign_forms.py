"""The checkpoint of `models.artifact` in the forms that peers read: Hugging Face's folder and vit.cpp's file."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from vitrify.artifacts import read_spec
from vitrify.files import atomic_path

PARTS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
"""Parts of a block, timm's name to Hugging Face's; `attn.qkv` becomes three."""
WHOLE = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
    "norm": "vit.layernorm",
    "head": "classifier",
}
GGML_MAGIC = 0x67676D6C
VIT_CPP_MEAN = np.array((123.675, 116.28, 103.53)) / 255
VIT_CPP_STD = np.array((58.395, 57.12, 57.375)) / 255
"""What vit.cpp normalises with, whatever the model wants."""


def hugging_face_folder(path: Path) -> Path:
    """The folder of an artifact's weights that `from_pretrained` reads, made once."""
    folder = path.with_suffix(".hf")
    if not (folder / "preprocessor_config.json").exists():  # what is written last
        write_hugging_face(path.with_suffix(".safetensors"), folder)
    return folder


def ggml_file(path: Path) -> Path:
    """vit.cpp's file of an artifact's weights, made once."""
    made = path.with_suffix(".ggml")
    if not made.exists():
        with atomic_path(made) as temporary:
            write_ggml(path.with_suffix(".safetensors"), temporary)
    return made


def write_hugging_face(checkpoint: Path, folder: Path) -> None:
    """Writes `model.safetensors`, `config.json` and `preprocessor_config.json`.

    The image processor is BitImageProcessor: the one for ViT has no shorter side and no crop.
    """
    from safetensors.numpy import load_file, save_file

    spec, weights = read_spec(checkpoint), load_file(checkpoint)
    tensors: dict[str, Any] = {}
    for name, value in weights.items():
        stem, _, kind = name.rpartition(".")
        if name in WHOLE:
            tensors[WHOLE[name]] = value
        elif stem in WHOLE:
            tensors[f"{WHOLE[stem]}.{kind}"] = value
        else:
            _, number, part = stem.split(".", 2)
            layer = f"vit.encoder.layer.{number}"
            if part == "attn.qkv":
                for which, piece in zip(("query", "key", "value"), np.split(value, 3), strict=True):
                    tensors[f"{layer}.attention.attention.{which}.{kind}"] = np.ascontiguousarray(piece)
            else:
                tensors[f"{layer}.{PARTS[part]}.{kind}"] = value
    width, _, patch, _ = weights["patch_embed.proj.weight"].shape
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    labels = {str(index): label for index, label in enumerate(spec.labels)}
    prepared = spec.preprocess
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": width // 64,
        "intermediate_size": len(weights["blocks.0.mlp.fc1.bias"]),
        "image_size": prepared.crop_height,
        "patch_size": patch,
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "hidden_act": "gelu",
        "id2label": labels,
        "label2id": {label: int(index) for index, label in labels.items()},
    }
    processor = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": prepared.resize_height},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": prepared.crop_height, "width": prepared.crop_width},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(prepared.mean),
        "image_std": list(prepared.std),
        "do_convert_rgb": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1), encoding="utf-8")


def write_ggml(checkpoint: Path, path: Path) -> None:
    """Writes vit.cpp's file: matrices in float16, the only form of a patch embedding that it runs, the rest in float32.

    A header of int32 (magic, width, depth, heads, classes, patch, image side, float type), the labels, and the tensors
    under timm's names, each with its axes, the innermost first. The patch embedding takes vit.cpp's normalisation back:
    of values v it makes what the model's own makes of v * scale + shift.
    """
    from safetensors.numpy import load_file

    spec, weights = read_spec(checkpoint), load_file(checkpoint)
    width, _, patch, _ = weights["patch_embed.proj.weight"].shape
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    mean, std = np.array(spec.preprocess.mean), np.array(spec.preprocess.std)
    scale, shift = VIT_CPP_STD / std, (VIT_CPP_MEAN - mean) / std
    embedding = weights["patch_embed.proj.weight"].astype(np.float64)
    weights["patch_embed.proj.bias"] = weights["patch_embed.proj.bias"] + np.einsum("oikl,i->o", embedding, shift)
    weights["patch_embed.proj.weight"] = embedding * scale[:, None, None]
    head = (GGML_MAGIC, width, depth, width // 64, len(spec.labels), patch, spec.preprocess.crop_height, 1)
    with path.open("wb") as file:
        file.write(struct.pack(f"<{len(head) + 1}i", *head, len(spec.labels)))
        for index, label in enumerate(spec.labels):
            text = label.encode()
            file.write(struct.pack("<2i", index, len(text)) + text)
        for name, value in weights.items():
            half = value.ndim > 1 and name not in ("pos_embed", "cls_token")
            shape = (1, width, 1, 1) if name == "patch_embed.proj.bias" else value.shape
            text = name.encode()
            file.write(struct.pack("<3i", len(shape), len(text), int(half)))
            file.write(struct.pack(f"<{len(shape)}i", *reversed(shape)) + text)
            file.write(value.astype(np.float16 if half else np.float32).tobytes())
