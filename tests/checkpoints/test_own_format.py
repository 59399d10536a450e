from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from vitrify.checkpoints import Overrides, build_model, load_checkpoint, save_checkpoint
from vitrify.errors import CheckpointError, OptionError, SpecError, SpecVersionError
from vitrify.spec import SPEC_KEY, GoldenVector, InputSpec, KwargValue, ModelSpec, Preprocess, Source

Randomise = Callable[[nn.Module], nn.Module]
Images = Callable[..., torch.Tensor]

SMALL: dict[str, KwargValue] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4}


def spec_for(kwargs: dict[str, KwargValue], *, classes: int = 3, side: int = 32) -> ModelSpec:
    preprocess = Preprocess(
        resize_rule="squash",
        resize_height=side + 8,
        resize_width=side + 8,
        crop_height=side,
        crop_width=side,
        interpolation="bilinear",
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
    )
    return ModelSpec(
        input=InputSpec(height=side, width=side),
        preprocess=preprocess,
        labels=tuple(f"kind {index}" for index in range(classes)),
        source=Source(architecture="vit_base_patch16_224", model_kwargs=kwargs),
        golden=(GoldenVector(seed=1, cell=1, logits=(0.0,) * classes),),
    )


@pytest.fixture
def saved(tmp_path: Path, randomise: Randomise) -> tuple[Path, nn.Module, ModelSpec]:
    spec = spec_for(SMALL)
    model = randomise(build_model(spec.source.architecture, num_classes=3, model_kwargs=SMALL))
    path = tmp_path / "run" / "best.safetensors"
    save_checkpoint(path, model, spec)
    return path, model, spec


@pytest.mark.parametrize(
    "extra",
    [{}, {"representation_size": 40}, {"global_pool": "token_avg"}, {"norm_eps": 1e-3}, {"act_layer": "quick_gelu"}],
    ids=lambda extra: next(iter(extra), "plain"),
)
def test_round_trip_is_exact(
    tmp_path: Path, randomise: Randomise, images: Images, extra: dict[str, KwargValue]
) -> None:
    spec = spec_for({**SMALL, **extra})
    model = randomise(build_model(spec.source.architecture, num_classes=3, model_kwargs=spec.source.model_kwargs))
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, spec)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.model(images(32)), model(images(32)))
    assert not loaded.model.training
    assert (loaded.spec, loaded.labels, loaded.preprocess) == (spec, spec.labels, spec.preprocess)
    assert (loaded.num_classes, loaded.notes) == (3, ())
    assert loaded.source.model_kwargs == spec.source.model_kwargs
    assert (loaded.source.dialect, loaded.source.checkpoint) == ("vitrify", "model.safetensors")


def test_file_has_timm_names_and_the_spec(saved: tuple[Path, nn.Module, ModelSpec]) -> None:
    path, model, spec = saved
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(model.state_dict())
        assert ModelSpec.from_json(file.metadata()[SPEC_KEY]) == spec


def test_weights_do_not_stay_mapped_to_the_file(saved: tuple[Path, nn.Module, ModelSpec], images: Images) -> None:
    path, model, _ = saved
    loaded = load_checkpoint(path)
    path.write_bytes(b"\0" * path.stat().st_size)  # in place: a mapped tensor would change under us
    assert torch.equal(loaded.model(images(32)), model(images(32)))


def test_loaded_weights_can_be_trained(saved: tuple[Path, nn.Module, ModelSpec]) -> None:
    model = load_checkpoint(saved[0]).model
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in model.parameters())


def test_another_size_resamples_and_scales_the_preprocessing(
    saved: tuple[Path, nn.Module, ModelSpec], images: Images
) -> None:
    loaded = load_checkpoint(saved[0], overrides=Overrides(img_size=(64,)))
    assert loaded.model(images(64)).shape == (2, 3)
    assert loaded.spec is not None
    assert loaded.spec.input_shape == (3, 64, 64)
    assert (loaded.preprocess.resize_height, loaded.preprocess.crop_height) == (80, 64)
    assert loaded.spec.golden == ()
    assert loaded.source.model_kwargs["img_size"] == 64
    assert "32 x 32 -> 64 x 64" in loaded.notes[0]


def test_same_architecture_may_be_named_and_another_not(saved: tuple[Path, nn.Module, ModelSpec]) -> None:
    load_checkpoint(saved[0], overrides=Overrides(architecture="vit_base_patch16_224"))
    with pytest.raises(OptionError, match="says itself"):
        load_checkpoint(saved[0], overrides=Overrides(architecture="vit_small_patch16_224"))
    with pytest.raises(OptionError, match="num_heads=2"):
        load_checkpoint(saved[0], overrides=Overrides(num_heads=2))


def test_newer_spec_is_refused(saved: tuple[Path, nn.Module, ModelSpec], tmp_path: Path) -> None:
    data = json.loads(saved[2].to_json()) | {"version": 99}
    path = tmp_path / "newer.safetensors"
    save_file(load_file(saved[0]), path, metadata={SPEC_KEY: json.dumps(data)})
    with pytest.raises(SpecVersionError, match="newer"):
        load_checkpoint(path)
    save_file(load_file(saved[0]), path, metadata={SPEC_KEY: "{"})
    with pytest.raises(SpecError, match="no JSON"):
        load_checkpoint(path)


def test_labels_and_head_must_agree(saved: tuple[Path, nn.Module, ModelSpec], tmp_path: Path) -> None:
    spec = dataclasses.replace(saved[2], labels=("a", "b"), golden=())
    save_checkpoint(tmp_path / "bad.safetensors", saved[1], spec)
    with pytest.raises(CheckpointError, match="3 classes in the head, 2 labels"):
        load_checkpoint(tmp_path / "bad.safetensors")


def test_only_safetensors_is_written(saved: tuple[Path, nn.Module, ModelSpec], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="safetensors"):
        save_checkpoint(tmp_path / "model.pth", saved[1], saved[2])
    assert not (tmp_path / "model.pth").exists()
