from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from vitrify.checkpoints import build_model, load_checkpoint, replace_head
from vitrify.errors import CheckpointError, OptionError

Randomise = Callable[[nn.Module], nn.Module]
Images = Callable[..., torch.Tensor]

SMALL: dict[str, Any] = {"img_size": 48, "patch_size": 8, "embed_dim": 192, "depth": 2, "num_heads": 3}


def test_builds_what_timm_builds(images: Images) -> None:
    torch.manual_seed(3)
    ours = build_model("vit_tiny_patch16_224", num_classes=5, model_kwargs=SMALL, drop_path_rate=0.1)
    torch.manual_seed(3)
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=5, drop_path_rate=0.1, **SMALL)
    assert ours.training
    assert torch.equal(ours.eval()(images(48)), theirs.eval()(images(48)))


def test_epsilon_reaches_every_norm() -> None:
    model = build_model("vit_tiny_patch16_224", num_classes=5, model_kwargs={**SMALL, "norm_eps": 1e-3})
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 5
    assert {norm.eps for norm in norms} == {1e-3}


@pytest.mark.parametrize(
    ("architecture", "kwargs", "message"),
    [
        ("vit_base_patch16_22", {}, "vit_base_patch16_224"),
        ("resnet50", {}, "no plain Vision Transformer"),
        ("vit_tiny_patch16_224", {"embedding_dim": 3}, "embedding_dim"),
        ("vit_tiny_patch16_224", {"num_heads": 5}, "num_heads=5"),
        ("vit_tiny_patch16_224", {"class_token": False}, "class token"),
        ("vit_tiny_patch16_224", {"global_pool": "median"}, "median"),
    ],
)
def test_errors_name_the_option(architecture: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        build_model(architecture, num_classes=5, model_kwargs=kwargs)


def test_pretrained_without_a_network_points_to_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="--init FILE"):
        build_model("vit_tiny_patch16_224", num_classes=5, pretrained=True)


@pytest.mark.parametrize("extra", [{"representation_size": 96}, {"global_pool": "token_avg"}])
def test_pretrained_does_not_fit_a_head_of_our_own(extra: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="do not fit this head"):
        build_model("vit_tiny_patch16_224", num_classes=5, model_kwargs=extra, pretrained=True)


@pytest.mark.parametrize(
    ("architecture", "extra"),
    [
        ("vit_tiny_patch16_224", {}),
        ("vit_tiny_patch16_224", {"representation_size": 96}),
        ("vit_tiny_patch16_224", {"global_pool": "token_avg"}),
        ("deit_tiny_distilled_patch16_224", {}),
    ],
)
def test_replaced_head(
    tmp_path: Path, randomise: Randomise, images: Images, architecture: str, extra: dict[str, Any]
) -> None:
    model = randomise(build_model(architecture, num_classes=5, model_kwargs={**SMALL, **extra}))
    torch.save(model.state_dict(), tmp_path / "m.pth")
    before = load_checkpoint(tmp_path / "m.pth")
    after = replace_head(before, 7)
    assert (after.num_classes, after.labels, after.spec) == (7, None, None)
    assert "head replaced: 5 -> 7 classes" in after.notes[-1]
    logits = after.model(images(48))
    assert logits.shape == (2, 7)
    # The source builds the same model again: the shapes fit, and so does the answer.
    again = build_model(after.source.architecture, num_classes=7, model_kwargs=after.source.model_kwargs).eval()
    again.load_state_dict(after.model.state_dict())
    assert torch.equal(again(images(48)), logits)
    assert replace_head(after, 0).model(images(48)).shape[0] == 2
    with pytest.raises(OptionError, match="negative"):
        replace_head(after, -1)


def test_missing_extra_names_the_pip_command() -> None:
    code = (
        "import sys; sys.modules['timm'] = None\n"
        "from vitrify.errors import MissingExtraError\n"
        "try:\n    import vitrify.checkpoints\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "vitrify[train]"' in done.stdout
    assert "timm is not installed" in done.stdout
