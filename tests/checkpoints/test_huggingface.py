from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from vitrify.checkpoints import Overrides, load_checkpoint
from vitrify.errors import CheckpointError

Randomise = Callable[[nn.Module], nn.Module]
Images = Callable[..., torch.Tensor]

SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,  # not width / 64: only config.json tells
    "intermediate_size": 160,
    "image_size": 48,
    "patch_size": 8,
    "id2label": {0: "cat", 1: "dog", 2: "eel"},
}


def save(folder: Path, randomise: Randomise, kind: str, **changes: Any) -> Any:
    config_class = getattr(transformers, kind.split("For", maxsplit=1)[0].removesuffix("Model") + "Config")
    model = getattr(transformers, kind)(config_class(**(SMALL | changes)))
    randomise(model)
    model.save_pretrained(folder)
    return model


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", {}),
    "vit, own epsilon": ("ViTForImageClassification", {"layer_norm_eps": 1e-2}),
    "vit, gelu_new": ("ViTForImageClassification", {"hidden_act": "gelu_new"}),
    "vit, no qkv bias": ("ViTForImageClassification", {"qkv_bias": False}),
    "vit, oblong": ("ViTForImageClassification", {"image_size": [48, 80]}),
    "vit backbone": ("ViTModel", {}),
    "deit": ("DeiTForImageClassification", {}),
    "deit, distilled": ("DeiTForImageClassificationWithTeacher", {}),
    "deit backbone": ("DeiTModel", {}),
    "dinov2": ("Dinov2ForImageClassification", {}),
    "dinov2, swiglu": ("Dinov2ForImageClassification", {"use_swiglu_ffn": True}),
    "dinov2 backbone": ("Dinov2Model", {}),
    "dinov2 with registers": ("Dinov2WithRegistersForImageClassification", {}),
    "dinov2 with registers, swiglu": ("Dinov2WithRegistersForImageClassification", {"use_swiglu_ffn": True}),
    "dinov2 with registers backbone": ("Dinov2WithRegistersModel", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_same_answer_as_transformers(tmp_path: Path, randomise: Randomise, images: Images, case: str) -> None:
    kind, changes = CASES[case]
    theirs = save(tmp_path, randomise, kind, **changes)
    size = changes.get("image_size", [48])
    output = theirs(images(*size))
    backbone = kind.endswith("Model")
    expected = output.last_hidden_state[:, 0] if backbone else output.logits
    loaded = load_checkpoint(tmp_path)
    torch.testing.assert_close(loaded.model(images(*size)), expected, atol=1e-5, rtol=1e-5)
    assert loaded.source.dialect == "huggingface"
    assert loaded.source.checkpoint == f"{tmp_path.name}/model.safetensors"
    assert loaded.num_classes == (0 if backbone else 3)
    assert loaded.labels == (None if backbone else ("cat", "dog", "eel"))


def test_names_since_version_5_load_too(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    for kind in ("ViTForImageClassification", "Dinov2ForImageClassification"):
        model = save(tmp_path, randomise, kind)
        (tmp_path / "model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        loaded = load_checkpoint(tmp_path)
        torch.testing.assert_close(loaded.model(images(48)), model(images(48)).logits, atol=1e-5, rtol=1e-5)
        (tmp_path / "pytorch_model.bin").unlink()


def test_a_bare_file_takes_the_defaults(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = save(tmp_path / "folder", randomise, "ViTForImageClassification", num_attention_heads=2)
    shutil.copy(tmp_path / "folder" / "model.safetensors", tmp_path / "flowers.safetensors")
    loaded = load_checkpoint(tmp_path / "flowers.safetensors")
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)).logits, atol=1e-5, rtol=1e-5)
    assert loaded.labels is None
    assert any("norm epsilon 1e-12" in note for note in loaded.notes)
    assert any("took 2 heads" in note for note in loaded.notes)


def test_the_config_beside_a_standard_name_counts(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = save(tmp_path, randomise, "ViTForImageClassification")
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)).logits, atol=1e-5, rtol=1e-5)
    assert loaded.labels == ("cat", "dog", "eel")


def test_shards_are_put_together(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = save(tmp_path / "whole", randomise, "ViTForImageClassification")
    model.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    loaded = load_checkpoint(tmp_path / "shards")
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)).logits, atol=1e-5, rtol=1e-5)
    assert len(loaded.source.checkpoint_sha256) == 64


def test_placeholder_labels_are_none(tmp_path: Path, randomise: Randomise) -> None:
    save(tmp_path, randomise, "ViTForImageClassification", id2label={0: "LABEL_0", 1: "LABEL_1"})
    assert load_checkpoint(tmp_path).labels is None


def test_pooler_is_left_out_and_told(tmp_path: Path, randomise: Randomise) -> None:
    save(tmp_path, randomise, "ViTModel")
    assert any("left out the pooler" in note for note in load_checkpoint(tmp_path).notes)


def test_another_model_type_is_refused(tmp_path: Path, randomise: Randomise) -> None:
    save(tmp_path, randomise, "ViTForImageClassification")
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "vivit"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="vivit"):
        load_checkpoint(tmp_path)


def test_preprocessing_comes_from_the_folder(tmp_path: Path, randomise: Randomise) -> None:
    save(tmp_path, randomise, "ViTForImageClassification")
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_resize": True,
                "size": {"height": 48, "width": 48},
                "resample": 3,
                "image_mean": [0.1, 0.2, 0.3],
                "image_std": [0.4, 0.5, 0.6],
            }
        )
    )
    preprocess = load_checkpoint(tmp_path).preprocess
    assert (preprocess.resize_rule, preprocess.interpolation) == ("squash", "bicubic")
    assert (preprocess.resize_height, preprocess.crop_width) == (48, 48)
    assert (preprocess.mean, preprocess.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_a_crop_of_another_size_is_scaled_and_told(tmp_path: Path, randomise: Randomise) -> None:
    save(tmp_path, randomise, "Dinov2ForImageClassification")
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "size": {"shortest_edge": 32},
                "do_center_crop": True,
                "crop_size": {"height": 24, "width": 24},
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "rescale_factor": 0.00392156862745098,
            }
        )
    )
    loaded = load_checkpoint(tmp_path)
    assert (loaded.preprocess.resize_rule, loaded.preprocess.resize_height) == ("shortest", 64)
    assert loaded.preprocess.crop_height == 48
    assert any("crops to 24 x 24" in note for note in loaded.notes)
    smaller = load_checkpoint(tmp_path, overrides=Overrides(img_size=(24,)))
    assert (smaller.preprocess.resize_height, smaller.preprocess.crop_height) == (32, 24)


def test_a_transform_that_cannot_be_said_falls_back(tmp_path: Path, randomise: Randomise) -> None:
    save(tmp_path, randomise, "ViTForImageClassification")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 32}}))
    loaded = load_checkpoint(tmp_path)
    assert loaded.preprocess.mean == (0.5, 0.5, 0.5)
    assert any("preprocessing is timm's" in note for note in loaded.notes)


def test_saved_names_are_those_of_the_file(tmp_path: Path, randomise: Randomise) -> None:
    # Guards the premise of these tests: save_pretrained still writes the names of version 4.
    save(tmp_path, randomise, "ViTForImageClassification")
    assert "vit.encoder.layer.0.attention.attention.query.weight" in load_file(tmp_path / "model.safetensors")
