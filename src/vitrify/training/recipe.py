"""From options to timm's parts: optimiser, schedule, loss, Mixup, moving average, loss scaler."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.scheduler_factory import create_scheduler_v2
from timm.utils.cuda import NativeScaler
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from vitrify.errors import OptionError
from vitrify.training.config import TrainConfig


def make_device(config: TrainConfig) -> torch.device:
    """The device that the options name.

    Raises:
        OptionError: CUDA is asked for, by name or by fp16, and there is none.
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if config.device == "cuda" or (config.device == "auto" and cuda) else "cpu")
    if device.type == "cuda" and not cuda:
        raise OptionError("PyTorch finds no CUDA device", got="device=cuda", hint="use --device cpu")
    if config.amp == "fp16" and device.type != "cuda":
        raise OptionError(
            "fp16 training needs CUDA", got=f"device={config.device} on this machine", hint="use --amp bf16 or none"
        )
    return device


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; biases and norms do not decay, and layers further from the head learn more slowly."""
    layer_decay = config.layer_decay if config.layer_decay != 1 else None
    return create_optimizer_v2(
        model, opt="adamw", lr=config.lr, weight_decay=config.weight_decay, layer_decay=layer_decay, fused=True
    )


def make_scheduler(optimizer: torch.optim.Optimizer, config: TrainConfig, updates_per_epoch: int) -> Scheduler:
    """A linear warm-up and then a cosine, stepped at every update."""
    assert config.lr is not None
    assert config.warmup_epochs is not None
    total = config.epochs * updates_per_epoch
    warmup = min(total - 1, round(config.warmup_epochs * updates_per_epoch))
    # In timm's words: one update is one epoch here, so that a warm-up of half an epoch is exact.
    scheduler: Scheduler
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=total - warmup,
        warmup_epochs=warmup,
        warmup_prefix=True,
        warmup_lr=config.lr / 100,
        min_lr=min(config.min_lr, config.lr),
        step_on_epochs=False,
        updates_per_epoch=1,
    )
    scheduler.step_update(0)
    return scheduler


def make_mixup(config: TrainConfig, num_classes: int) -> Mixup | None:
    """Mixup and CutMix, or None where both are off."""
    if not config.mixes:
        return None
    return Mixup(
        mixup_alpha=config.mixup,
        cutmix_alpha=config.cutmix,
        label_smoothing=config.label_smoothing,
        num_classes=num_classes,
    )


def make_loss(config: TrainConfig) -> nn.Module:
    """The loss that is minimised. Mixup smooths the labels itself."""
    if config.mixes:
        return SoftTargetCrossEntropy()
    if config.label_smoothing:
        return LabelSmoothingCrossEntropy(config.label_smoothing)
    return nn.CrossEntropyLoss()


def make_ema(model: nn.Module, config: TrainConfig) -> ModelEmaV3 | None:
    """The moving average of the weights, on the model's device, or None where it is off.

    With warm-up: a decay of 0.9999 would otherwise leave a short run with its random beginning.
    """
    return ModelEmaV3(model, decay=config.ema_decay, use_warmup=True) if config.ema_decay else None


def make_scaler(config: TrainConfig) -> NativeScaler | None:
    """The loss scaler that fp16 gradients need, or None."""
    return NativeScaler(device="cuda") if config.amp == "fp16" else None


def make_normaliser(
    mean: tuple[float, ...], std: tuple[float, ...], reprob: float, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """The last part of the training transform, on whole batches on the device: uint8 to normalised float32."""
    shift = torch.tensor(mean, device=device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=device).view(1, 3, 1, 1)
    erase: Any = None
    if reprob:
        erase = RandomErasing(reprob, mode="pixel", device=device.type)

    def normalise(pixels: Tensor) -> Tensor:
        images: Tensor = pixels.to(device, non_blocking=True).float().div_(255).sub_(shift).div_(scale)
        return images if erase is None else erase(images)

    return normalise


def updates_per_epoch(batches: int, accumulate: int) -> int:
    """Updates in one epoch; the last may gather fewer batches."""
    return math.ceil(batches / accumulate)
