from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from vitrify.checkpoints import Overrides, load_checkpoint
from vitrify.errors import AmbiguousCheckpointError, CheckpointError, OptionError

Randomise = Callable[[nn.Module], nn.Module]
Images = Callable[..., torch.Tensor]

SMALL: dict[str, Any] = {"img_size": 48, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "backbone": {"num_classes": 0},
    "no qkv bias": {"qkv_bias": False},
    "layer scale": {"init_values": 0.1},
    "registers": {"reg_tokens": 4},
    "registers without positions": {"reg_tokens": 4, "no_embed_class": True, "init_values": 0.1},
    "class token without position": {"no_embed_class": True},
    "mean with fc_norm": {"global_pool": "avg"},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "no class token, norm first": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "qk norm": {"qk_norm": True},
    "narrow mlp": {"mlp_ratio": 2.6},
    "attention pooling": {"class_token": False, "global_pool": "map"},
    "no final norm": {"final_norm": False},
    "no positions": {"pos_embed": "none"},
    "oblong patches": {"patch_size": (8, 4), "img_size": (48, 24)},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_any_build_is_found_out(
    tmp_path: Path, randomise: Randomise, images: Images, variant: str, suffix: str
) -> None:
    kwargs = {"num_classes": 5, **SMALL, **VARIANTS[variant]}
    model = randomise(timm.create_model("vit_base_patch16_224", **kwargs))
    path = tmp_path / f"model{suffix}"
    save_file(model.state_dict(), path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)
    size = kwargs["img_size"]
    sides = size if isinstance(size, tuple) else (size,)
    overrides = Overrides(img_size=sides) if variant == "no positions" else Overrides()
    loaded = load_checkpoint(path, overrides=overrides)
    torch.testing.assert_close(loaded.model(images(*sides)), model(images(*sides)), atol=1e-5, rtol=1e-5)
    assert loaded.num_classes == kwargs["num_classes"]
    assert loaded.source.dialect == "timm"
    assert (loaded.preprocess.crop_height, loaded.preprocess.crop_width) == (sides[0], sides[-1])
    assert any("took 2 heads (width 128 / 64)" in note for note in loaded.notes)


def test_a_published_architecture_needs_no_arguments(tmp_path: Path) -> None:
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert (loaded.source.architecture, loaded.source.model_kwargs) == ("vit_tiny_patch16_224", {})
    assert (loaded.num_classes, loaded.notes, loaded.labels, loaded.spec) == (1000, (), None, None)
    assert (loaded.preprocess.crop_height, loaded.preprocess.mean) == (224, (0.5, 0.5, 0.5))


def test_distilled_deit_averages_its_heads(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = randomise(timm.create_model("deit_base_distilled_patch16_224", num_classes=5, **SMALL))
    torch.save(model.state_dict(), tmp_path / "deit.pth")
    loaded = load_checkpoint(tmp_path / "deit.pth")
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)
    assert loaded.source.architecture == "deit_base_distilled_patch16_224"


def test_swiglu_and_original_dinov2_names(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    small = SMALL | {"mlp_ratio": 5.5}
    model = randomise(timm.create_model("vit_giant_patch14_reg4_dinov2", num_classes=0, **small))
    facebook = {
        name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): tensor
        for name, tensor in model.state_dict().items()
    }
    position = 0.1 * torch.randn(1, 1, 128)
    facebook["register_tokens"] = facebook.pop("reg_token")
    facebook["cls_token"] = facebook["cls_token"] - position
    facebook["pos_embed"] = torch.cat([position, facebook["pos_embed"]], dim=1)
    facebook["mask_token"] = torch.zeros(1, 128)
    torch.save(facebook, tmp_path / "dinov2.pth")
    loaded = load_checkpoint(tmp_path / "dinov2.pth")
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)
    assert loaded.source.architecture == "vit_giant_patch14_reg4_dinov2"
    assert "left out mask_token, which only pretraining uses" in loaded.notes


def test_deit3_names(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = randomise(timm.create_model("deit3_base_patch16_224", num_classes=5, **SMALL))
    old = {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t
        for name, t in model.state_dict().items()
    }
    torch.save({"model": old}, tmp_path / "deit3.pth")
    loaded = load_checkpoint(tmp_path / "deit3.pth")
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)


def save_small(
    path: Path, randomise: Randomise, architecture: str = "vit_base_patch16_224", **kwargs: Any
) -> nn.Module:
    model = randomise(timm.create_model(architecture, **({"num_classes": 5} | SMALL | kwargs)))
    torch.save(model.state_dict(), path)
    return model


def test_head_count_can_be_said(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = save_small(tmp_path / "m.pth", randomise, num_heads=4)
    loaded = load_checkpoint(tmp_path / "m.pth", overrides=Overrides(num_heads=4))
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)
    assert loaded.notes == ()
    with pytest.raises(OptionError, match="does not divide the width"):
        load_checkpoint(tmp_path / "m.pth", overrides=Overrides(num_heads=5))


def test_head_count_of_an_odd_width_has_to_be_said(tmp_path: Path, randomise: Randomise) -> None:
    save_small(tmp_path / "m.pth", randomise, embed_dim=96)
    with pytest.raises(AmbiguousCheckpointError, match="--num-heads"):
        load_checkpoint(tmp_path / "m.pth")
    assert load_checkpoint(tmp_path / "m.pth", overrides=Overrides(num_heads=2)).num_classes == 5


def test_epsilon_activation_and_pooling_can_be_said(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    norm = "layernorm"
    model = save_small(
        tmp_path / "m.pth", randomise, act_layer="quick_gelu", global_pool="avg", fc_norm=False, norm_layer=norm
    )
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-3
    overrides = Overrides(activation="quick_gelu", norm_eps=1e-3, pool="avg")
    loaded = load_checkpoint(tmp_path / "m.pth", overrides=overrides)
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)
    save_small(tmp_path / "g.pth", randomise, class_token=False, global_pool="avg")
    with pytest.raises(OptionError, match="pooling contradicts"):
        load_checkpoint(tmp_path / "g.pth", overrides=Overrides(pool="token"))


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_clip_towers_need_their_activation(
    tmp_path: Path, randomise: Randomise, images: Images, activation: Any
) -> None:
    model = save_small(tmp_path / "m.pth", randomise, "vit_base_patch16_clip_224", act_layer=activation)
    with pytest.raises(AmbiguousCheckpointError, match="--activation gelu or --activation quick_gelu"):
        load_checkpoint(tmp_path / "m.pth")
    loaded = load_checkpoint(tmp_path / "m.pth", overrides=Overrides(activation=activation))
    torch.testing.assert_close(loaded.model(images(48)), model(images(48)), atol=1e-5, rtol=1e-5)


def test_oblong_grid_needs_the_size(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = save_small(tmp_path / "m.pth", randomise, img_size=(48, 80))
    with pytest.raises(AmbiguousCheckpointError, match="48 x 80"):
        load_checkpoint(tmp_path / "m.pth")
    loaded = load_checkpoint(tmp_path / "m.pth", overrides=Overrides(img_size=(48, 80)))
    torch.testing.assert_close(loaded.model(images(48, 80)), model(images(48, 80)), atol=1e-5, rtol=1e-5)
    assert loaded.source.model_kwargs["img_size"] == (48, 80)
    assert (loaded.preprocess.crop_height, loaded.preprocess.crop_width) == (48, 80)


def test_another_size_resamples_the_positions_as_timm_does(
    tmp_path: Path, randomise: Randomise, images: Images
) -> None:
    model: Any = save_small(tmp_path / "m.pth", randomise)
    loaded = load_checkpoint(tmp_path / "m.pth", overrides=Overrides(img_size=(64, 96)))
    model.set_input_size(img_size=(64, 96))
    torch.testing.assert_close(loaded.model(images(64, 96)), model(images(64, 96)), atol=1e-5, rtol=1e-5)
    assert any("resampled: 48 x 48 -> 64 x 96" in note for note in loaded.notes)
    with pytest.raises(OptionError, match="multiples of 8 x 8"):
        load_checkpoint(tmp_path / "m.pth", overrides=Overrides(img_size=(60,)))


@pytest.mark.parametrize("architecture", ["test_vit", "test_vit4"])
def test_architecture_names_what_shapes_do_not_show(
    tmp_path: Path, randomise: Randomise, images: Images, architecture: str
) -> None:
    model = randomise(timm.create_model(architecture, num_classes=5, depth=2))
    torch.save(model.state_dict(), tmp_path / "m.pth")
    loaded = load_checkpoint(tmp_path / "m.pth", overrides=Overrides(architecture=architecture))
    torch.testing.assert_close(loaded.model(images(160)), model(images(160)), atol=1e-5, rtol=1e-5)
    assert (loaded.source.architecture, loaded.source.model_kwargs) == (architecture, {"depth": 2})


def test_an_architecture_that_does_not_fit_is_told(tmp_path: Path, randomise: Randomise) -> None:
    save_small(tmp_path / "m.pth", randomise)
    for name, message in (
        ("vit_bse_patch16_224", "vit_base_patch16_224"),
        ("resnet50", "no plain Vision Transformer"),
        ("deit_tiny_distilled_patch16_224", "distillation token"),
    ):
        with pytest.raises(OptionError, match=message):
            load_checkpoint(tmp_path / "m.pth", overrides=Overrides(architecture=name))


def test_relatives_load_where_they_are_named(tmp_path: Path, randomise: Randomise, images: Images) -> None:
    model = randomise(timm.create_model("vit_pwee_patch16_reg1_gap_256", num_classes=5))
    torch.save(model.state_dict(), tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="no Vision Transformer"):
        load_checkpoint(tmp_path / "m.pth")
    loaded = load_checkpoint(tmp_path / "m.pth", overrides=Overrides(architecture="vit_pwee_patch16_reg1_gap_256"))
    torch.testing.assert_close(loaded.model(images(256)), model(images(256)), atol=1e-4, rtol=1e-5)


def test_half_precision_is_widened(tmp_path: Path, randomise: Randomise) -> None:
    model = save_small(tmp_path / "m.pth", randomise)
    torch.save(model.half().state_dict(), tmp_path / "m.pth")
    loaded = load_checkpoint(tmp_path / "m.pth")
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())
    assert "weights stored as float16 were widened to float32" in loaded.notes


def test_a_head_that_was_never_trained_is_told(tmp_path: Path, randomise: Randomise) -> None:
    model: Any = save_small(tmp_path / "m.pth", randomise)
    nn.init.zeros_(model.head.weight)
    torch.save(model.state_dict(), tmp_path / "m.pth")
    assert any("head is all zeros" in note for note in load_checkpoint(tmp_path / "m.pth").notes)
