"""Weight files that are made to harm: they ask for files, for classes, or for far more memory than they hold."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.conftest import tiny_model, tiny_spec
from vitrify.checkpoints import build_model, load_checkpoint
from vitrify.checkpoints.arguments import RULES, check_arguments
from vitrify.errors import CheckpointError, OptionError
from vitrify.spec import SPEC_KEY, KwargValue


def with_arguments(path: Path, changes: dict[str, KwargValue]) -> Path:
    spec = tiny_spec()
    source = dataclasses.replace(spec.source, model_kwargs={**spec.source.model_kwargs, **changes})
    save_file(tiny_model().state_dict(), path, metadata={SPEC_KEY: spec.replace(source=source).to_json()})
    return path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("checkpoint_path", "/etc/passwd"),
        ("pretrained_cfg", "hf-hub:someone/else"),
        ("cache_dir", "/tmp/elsewhere"),
        ("pretrained", True),
        ("features_only", True),
        ("block_fn", "os.system"),
        ("norm_layer", "batchnorm2d"),
        ("device", "cuda"),
        ("depth", 10**9),
        ("depth", True),
        ("depth", 2.5),
        ("img_size", (32, 10**6)),
        ("img_size", (32, 32, 32)),
        ("mlp_ratio", 1e300),
        ("drop_rate", 2),
        ("act_layer", "os.system"),
        ("global_pool", "prr"),
        ("qkv_bias", "yes"),
        ("norm_eps", 0.0),
    ],
)
def test_an_argument_of_a_spec_that_is_not_on_the_list_is_named(tmp_path: Path, name: str, value: KwargValue) -> None:
    with pytest.raises(OptionError, match=rf"model_kwargs\.{name}\b"):
        load_checkpoint(with_arguments(tmp_path / "m.safetensors", {name: value}))


def test_a_spec_unpickles_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr("timm.models._factory.load_checkpoint", lambda *args, **_: read.append(args))
    with pytest.raises(OptionError, match="checkpoint_path"):
        build_model("vit_tiny_patch16_224", num_classes=3, model_kwargs={"checkpoint_path": str(tmp_path / "evil.pth")})
    assert not read


def test_what_the_list_allows_is_what_timm_takes() -> None:
    values: dict[str, KwargValue] = {"img_size": (32, 48), "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 2}
    values |= {"in_chans": 3, "mlp_ratio": 2.5, "representation_size": 16, "reg_tokens": 1, "norm_eps": 1e-3}
    values |= {"init_values": None, "pos_embed": "learn", "act_layer": "quick_gelu", "weight_init": "skip"}
    values |= {name: False for name in RULES if name.startswith(("qkv", "proj_b", "qk", "scale", "no_", "pre", "pool"))}
    values |= dict.fromkeys(("class_token", "final_norm", "dynamic_img_size", "dynamic_img_pad", "fix_init"), True)
    values |= {name: 0.1 for name in RULES if "drop" in name} | {"fc_norm": None, "global_pool": "token"}
    assert values.keys() == RULES.keys()
    check_arguments(values)
    build_model("vit_tiny_patch16_224", num_classes=3, model_kwargs=values)


def test_a_tensor_that_repeats_a_few_numbers_is_refused(tmp_path: Path) -> None:
    state = tiny_model().state_dict()
    state["head.weight"] = torch.zeros(1, 1).expand(40_000, 64_000)  # 10 GB
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=r"(?s)repeats a few values.*head\.weight"):
        load_checkpoint(tmp_path / "m.pth")


def test_one_storage_under_many_names_is_refused(tmp_path: Path) -> None:
    state = dict(tiny_model().state_dict())
    shared = torch.randn(256, 256)
    torch.save(state | {f"extra.{index}": shared for index in range(64)}, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="many times larger than the file"):
        load_checkpoint(tmp_path / "m.pth")


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(3, 3).to_sparse(), torch.empty(3, 3, device="meta")],
    ids=["sparse", "meta"],
)
def test_what_is_no_plain_array_is_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({**tiny_model().state_dict(), "head.bias": tensor}, tmp_path / "m.pth")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "m.pth")


def test_tied_weights_are_read(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5)
    state = dict(model.state_dict())
    state |= {name: state[name.replace("blocks.1.", "blocks.0.")] for name in state if name.startswith("blocks.1.mlp")}
    torch.save(state, tmp_path / "m.pth")
    assert load_checkpoint(tmp_path / "m.pth").num_classes == 5


def test_a_compressed_torch_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4 << 20)}, tmp_path / "whole.pth")
    bomb = tmp_path / "m.pth"
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="unpacks to more than it holds"):
        load_checkpoint(bomb)


def npy(array_bytes: int, shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue() + bytes(array_bytes)


def test_an_npz_that_unpacks_to_far_more_is_refused_before_an_array_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "m.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        for index in range(5):
            packed.writestr(f"a{index}.npy", npy(16 << 20, (4 << 20,)))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(CheckpointError, match="unpacks to far more"):
        load_checkpoint(tmp_path / "m.npz")


def test_an_array_whose_header_says_more_than_there_is_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as packed:
        packed.writestr("embedding/kernel.npy", npy(64, (10**12,)))
    with pytest.raises(CheckpointError, match=r"is no \.npz"):
        load_checkpoint(tmp_path / "m.npz")


@pytest.mark.parametrize(
    "config",
    ["[" * 100_000, '{"a":' * 100_000, '{"model_type": "vit", "num_attention_heads": "four"}', '{"image_size": [0, 2]}',
     '{"model_type": "vit", "layer_norm_eps": []}', "9" * 9999],
)  # fmt: skip
def test_a_hostile_configuration_is_an_error_of_the_checkpoint(tmp_path: Path, config: str) -> None:
    import transformers

    kind = transformers.ViTConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=1, image_size=16, patch_size=8
    )
    transformers.ViTModel(kind).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)


def test_a_configuration_has_a_limit(tmp_path: Path) -> None:
    save_file(tiny_model().state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"a": "x" * (17 << 20)}))
    with pytest.raises(CheckpointError, match="17825"):
        load_checkpoint(tmp_path)


def test_a_preprocessing_that_cannot_be_is_a_note(tmp_path: Path) -> None:
    state = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    wrong = {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bicubic", "crop_pct": 1e-320}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "x", "pretrained_cfg": wrong}))
    assert any("cannot be expressed" in note for note in load_checkpoint(tmp_path).notes)
