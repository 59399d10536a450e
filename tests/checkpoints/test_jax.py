from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from torch import nn

from vitrify.checkpoints import load_checkpoint
from vitrify.errors import CheckpointError

Randomise = Callable[[nn.Module], nn.Module]
Images = Callable[..., torch.Tensor]
Arrays = dict[str, npt.NDArray[Any]]

HEADS, WIDTH = 4, 128  # not width / 64: JAX's kernels show the heads


def timm_model(randomise: Randomise, **kwargs: Any) -> Any:
    small = {"img_size": 48, "patch_size": 8, "embed_dim": WIDTH, "depth": 2, "num_heads": HEADS, "num_classes": 5}
    return randomise(timm.create_model("vit_base_patch16_224", **(small | kwargs)))


def jax_arrays(model: nn.Module, *, big_vision: bool = False) -> Arrays:
    """The names and layouts that Google's archives have, from a timm model."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    arrays: Arrays = {
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
        "pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding": state["pos_embed"],
    }
    if "cls_token" in state:
        arrays["cls"] = state["cls_token"]
    attention, norm2, mlp = (0, 1, 0) if big_vision else (1, 2, 3)
    for block in (0, 1):
        ours, theirs = f"blocks.{block}", f"Transformer/encoderblock_{block}"
        kernels = np.split(state[f"{ours}.attn.qkv.weight"], 3)
        biases = np.split(state[f"{ours}.attn.qkv.bias"], 3)
        mha = f"{theirs}/MultiHeadDotProductAttention_{attention}"
        for part, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
            arrays[f"{mha}/{part}/kernel"] = kernel.T.reshape(WIDTH, HEADS, WIDTH // HEADS)
            arrays[f"{mha}/{part}/bias"] = bias.reshape(HEADS, WIDTH // HEADS)
        arrays[f"{mha}/out/kernel"] = state[f"{ours}.attn.proj.weight"].T.reshape(HEADS, WIDTH // HEADS, WIDTH)
        arrays[f"{mha}/out/bias"] = state[f"{ours}.attn.proj.bias"]
        for norm, number in (("norm1", 0), ("norm2", norm2)):
            arrays[f"{theirs}/LayerNorm_{number}/scale"] = state[f"{ours}.{norm}.weight"]
            arrays[f"{theirs}/LayerNorm_{number}/bias"] = state[f"{ours}.{norm}.bias"]
        for number in (0, 1):
            dense = f"{theirs}/MlpBlock_{mlp}/Dense_{number}"
            arrays[f"{dense}/kernel"] = state[f"{ours}.mlp.fc{number + 1}.weight"].T
            arrays[f"{dense}/bias"] = state[f"{ours}.mlp.fc{number + 1}.bias"]
    return arrays


def save(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_original_layout_is_read_as_timm_reads_it(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = timm_model(randomise)
    path = save(tmp_path / "ViT-B_16.npz", jax_arrays(model))
    loaded = load_checkpoint(path)
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)
    assert (loaded.source.dialect, loaded.num_classes, loaded.notes) == ("jax", 5, ())

    theirs = timm_model(lambda fresh: fresh.eval())
    theirs.load_pretrained(str(path))
    torch.testing.assert_close(loaded.model(images(48)), theirs(images(48)), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("prefix", ["opt/target/", "params/"])
def test_prefixes(tmp_path: Path, randomise: Randomise, images: Images, prefix: str) -> None:
    model = timm_model(randomise)
    arrays = jax_arrays(model, big_vision=prefix == "params/")
    path = save(tmp_path / "m.npz", {prefix + name: array for name, array in arrays.items()})
    torch.testing.assert_close(load_checkpoint(path).model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)


def test_big_vision_without_a_class_token(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = timm_model(randomise, class_token=False, global_pool="avg", fc_norm=False)
    path = save(tmp_path / "m.npz", jax_arrays(model, big_vision=True))
    torch.testing.assert_close(load_checkpoint(path).model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)


def test_stacked_blocks(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = timm_model(randomise)
    arrays = jax_arrays(model, big_vision=True)
    stem = "Transformer/encoderblock"
    for name in [name for name in arrays if name.startswith(f"{stem}_0/")]:
        parts = [arrays.pop(name.replace(f"{stem}_0/", f"{stem}_{block}/")) for block in (0, 1)]
        arrays[name.replace(f"{stem}_0/", f"{stem}/")] = np.stack(parts)
    path = save(tmp_path / "m.npz", arrays)
    torch.testing.assert_close(load_checkpoint(path).model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)


def test_representation_layer(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = timm_model(randomise)
    weight, bias = torch.randn(WIDTH, WIDTH) * 0.2, torch.randn(WIDTH) * 0.2
    arrays = jax_arrays(model) | {"pre_logits/kernel": weight.T.numpy(), "pre_logits/bias": bias.numpy()}
    loaded = load_checkpoint(save(tmp_path / "m.npz", arrays))
    features = torch.tanh(model.forward_head(model.forward_features(images(48)), pre_logits=True) @ weight.T + bias)
    torch.testing.assert_close(loaded.model(images(48)), model.head(features), atol=1e-5, rtol=1e-5)
    assert loaded.source.model_kwargs["representation_size"] == WIDTH


@pytest.mark.parametrize("gone", ["Transformer/encoderblock_0/LayerNorm_0/scale", "embedding/bias"])
def test_incomplete_archives_are_told(tmp_path: Path, randomise: Randomise, gone: str) -> None:
    arrays = jax_arrays(timm_model(randomise))
    del arrays[gone]
    with pytest.raises(CheckpointError, match=r"scale|not go together|patch_embed\.proj\.bias"):
        load_checkpoint(save(tmp_path / "m.npz", arrays))


def test_hybrids_and_other_archives_are_told(tmp_path: Path, randomise: Randomise) -> None:
    arrays = jax_arrays(timm_model(randomise)) | {"conv_root/kernel": np.zeros((7, 7, 3, 64), np.float32)}
    with pytest.raises(CheckpointError, match="ResNet stem"):
        load_checkpoint(save(tmp_path / "hybrid.npz", arrays))
    with pytest.raises(CheckpointError, match="no Vision Transformer"):
        load_checkpoint(save(tmp_path / "x.npz", {"a": np.zeros(3), "b": np.zeros(3)}))
    with pytest.raises(CheckpointError, match=r"no \.npz archive"):
        load_checkpoint(save(tmp_path / "o.npz", {"a": np.array([{}], dtype=object)}))
