from __future__ import annotations

import pytest
import torch
from torch import nn

from vitrify.checkpoints import build_model
from vitrify.training.config import TrainConfig
from vitrify.training.recipe import make_ema, make_loss, make_optimizer, make_scheduler, updates_per_epoch


@pytest.fixture
def model() -> nn.Module:
    kwargs = {"patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2, "img_size": 16}
    return build_model("vit_tiny_patch16_224", num_classes=3, model_kwargs=kwargs)


def head_rates(model: nn.Module, config: TrainConfig, updates: int) -> list[float]:
    optimizer = make_optimizer(model, config)
    scheduler = make_scheduler(optimizer, config, updates_per_epoch=updates)
    rates = []
    for update in range(config.epochs * updates):
        scheduler.step_update(update)
        rates.append(max(group["lr"] for group in optimizer.param_groups))
    return rates


def test_the_rate_rises_to_its_peak_and_falls_along_a_cosine(model: nn.Module) -> None:
    rates = head_rates(model, TrainConfig(epochs=10, lr=1e-3, warmup_epochs=1.5, min_lr=1e-6).resolved(), updates=4)
    assert rates[0] == pytest.approx(1e-5)
    assert rates.index(max(rates)) == 6
    assert max(rates) == pytest.approx(1e-3)
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert rates[-1] < 1e-5


def test_a_run_of_a_single_update_has_a_rate(model: nn.Module) -> None:
    assert head_rates(model, TrainConfig(epochs=1, lr=1e-3).resolved(), updates=1) == [pytest.approx(1e-3)]


def test_layers_further_from_the_head_learn_more_slowly(model: nn.Module) -> None:
    optimizer = make_optimizer(model, TrainConfig(lr=1.0, layer_decay=0.5).resolved())
    scale = {
        id(parameter): group.get("lr_scale", 1.0) for group in optimizer.param_groups for parameter in group["params"]
    }
    by_name = {name: scale[id(parameter)] for name, parameter in model.named_parameters()}
    assert by_name["head.weight"] == 1.0
    assert by_name["blocks.0.attn.qkv.weight"] == by_name["blocks.1.attn.qkv.weight"] / 2
    assert by_name["cls_token"] < by_name["blocks.0.attn.qkv.weight"]


def test_biases_and_norms_do_not_decay(model: nn.Module) -> None:
    optimizer = make_optimizer(model, TrainConfig(weight_decay=0.1).resolved())
    for group in optimizer.param_groups:
        if group["weight_decay"]:
            assert all(parameter.ndim > 1 for parameter in group["params"])


def test_the_average_follows_a_short_run(model: nn.Module) -> None:
    ema = make_ema(model, TrainConfig(ema_decay=0.9999))
    assert ema is not None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    for step in range(1, 4):
        ema.update(model, step=step)
    assert all(torch.allclose(parameter, torch.ones(())) for parameter in ema.module.parameters())


def test_the_loss_follows_the_options() -> None:
    losses = [type(make_loss(config)).__name__ for config in (TrainConfig(), TrainConfig(mixup=0.1))]
    assert losses == ["LabelSmoothingCrossEntropy", "SoftTargetCrossEntropy"]
    assert isinstance(make_loss(TrainConfig(label_smoothing=0)), nn.CrossEntropyLoss)


def test_the_last_update_may_gather_fewer_batches() -> None:
    assert updates_per_epoch(7, 3) == 3
