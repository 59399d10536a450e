"""The loop: an epoch trains, validates, keeps the best and leaves a state to go on from."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from timm.utils.clip_grad import dispatch_clip_grad
from torch import Tensor, nn

from vitrify.errors import TrainingDivergedError
from vitrify.progress import SILENT, Progress
from vitrify.training import recipe
from vitrify.training.config import TrainConfig
from vitrify.training.data import Batch, Loaders
from vitrify.training.metrics import EpochRow, Scores
from vitrify.training.randomness import kept_random_state, seed_step
from vitrify.training.run_folder import RunFolder
from vitrify.training.start import Start
from vitrify.training.state import RunState, as_confusion

_LOSSES_HELD = 32
"""Losses stay on the device this long: looking at each would make a GPU wait for the CPU at every step."""


def fit(
    start: Start,
    loaders: Loaders,
    config: TrainConfig,
    *,
    run: RunFolder,
    state: RunState,
    progress: Progress = SILENT,
) -> None:
    """Trains until the epochs or the patience are used up, and saves after every epoch.

    Args:
        start: The model, which is trained in place, and the spec of its checkpoints.
        loaders: Batches.
        config: Resolved options.
        run: Where each epoch is saved.
        state: What an earlier part of the run left; brought up to date after every epoch.
        progress: A bar for each epoch, and one line.

    Raises:
        TrainingDivergedError: A loss is not finite; the run folder keeps the last good epoch.
        StorageError: The disk is full.
    """
    with kept_random_state():
        trainer = _Trainer(start, loaders, config)
        trainer.restore(state)
        while not state.is_over(config):
            row, scores = trainer.epoch(state.epoch, progress)
            best = row.better_than(state.best)
            after = RunState(
                updates=trainer.updates,
                history=[*state.history, row],
                best=row if best else state.best,
                best_confusion=scores.confusion if best else state.best_confusion,
                tensors=trainer.tensors(),
                notes=state.notes,
            )
            run.save_epoch(after, trainer.evaluated, start.spec)
            state.become(after)  # not before: Ctrl-C may come while the epoch is written
            progress.say(_line(row, config.epochs, best=best))


def _line(row: EpochRow, epochs: int, *, best: bool) -> str:
    losses = f"train loss {row.train_loss:.3f}  val loss {row.val_loss:.3f}"
    return f"epoch {row.epoch}/{epochs}  {losses}  top-1 {row.val_top1:.2%}{'  best so far' if best else ''}"


class _Trainer:
    """Model, optimiser and schedule between epochs."""

    def __init__(self, start: Start, loaders: Loaders, config: TrainConfig) -> None:
        self.config = config
        self.loaders = loaders
        self.device = recipe.make_device(config)
        self.model = start.model.to(self.device)
        self.optimizer = recipe.make_optimizer(self.model, config)
        self.updates_per_epoch = recipe.updates_per_epoch(len(loaders.batches), config.accumulate)
        self.scheduler = recipe.make_scheduler(self.optimizer, config, self.updates_per_epoch)
        self.ema = recipe.make_ema(self.model, config)
        self.scaler = recipe.make_scaler(config)
        self.mixup = recipe.make_mixup(config, len(start.spec.labels))
        self.loss = recipe.make_loss(config)
        preprocess = start.spec.preprocess
        self.normalise = recipe.make_normaliser(preprocess.mean, preprocess.std, config.reprob, self.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.num_classes = len(start.spec.labels)
        self.updates = 0

    @property
    def evaluated(self) -> nn.Module:
        """What is validated and saved: the moving average where there is one."""
        module: nn.Module = self.ema.module if self.ema else self.model
        return module

    def tensors(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }

    def restore(self, state: RunState) -> None:
        if not state.tensors:
            return
        self.model.load_state_dict(state.tensors["model"])
        self.optimizer.load_state_dict(state.tensors["optimizer"])
        if self.ema:
            self.ema.module.load_state_dict(state.tensors["ema"])
        if self.scaler:
            self.scaler.load_state_dict(state.tensors["scaler"])
        self.updates = state.updates
        self.scheduler.step_update(self.updates)

    def epoch(self, done: int, progress: Progress) -> tuple[EpochRow, Scores]:
        began = time.perf_counter()
        lr = self._lr()
        train_loss, images = self._train(done, progress)
        trained = time.perf_counter()
        scores = evaluate(self.evaluated, self.loaders.val, self.num_classes, self.device)
        if not math.isfinite(scores.loss):
            raise self._diverged("validation loss", scores.loss, done, len(self.loaders.batches) - 1)
        row = EpochRow(
            epoch=done + 1,
            lr=lr,
            train_loss=train_loss,
            val_loss=scores.loss,
            val_top1=scores.top1,
            val_top5=scores.top5,
            images_per_s=images / (trained - began),
            seconds=time.perf_counter() - began,
        )
        return row, scores

    def _lr(self) -> float:
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def _train(self, done: int, progress: Progress) -> tuple[float, int]:
        """One pass over the training images; the mean loss and the number of images."""
        self.loaders.batches.epoch = done
        frozen = self.config.freeze == "backbone"
        self.model.train(not frozen)
        total, images = 0.0, 0
        held: list[tuple[Tensor, int]] = []
        steps = len(self.loaders.batches)
        label = f"epoch {done + 1}/{self.config.epochs}  lr {self._lr():.1e}"
        batches: Iterable[Batch] = progress.track(self.loaders.train, label=label, total=steps)
        for step, (pixels, targets) in enumerate(batches):
            seed_step(self.config.seed, done, step)
            loss = self._step(step, steps, pixels, targets, frozen=frozen)
            held.append((loss.detach(), len(targets)))
            images += len(targets)
            if len(held) == _LOSSES_HELD or step + 1 == steps:
                total += self._sum_losses(held, done, step)
                held.clear()
        return total / images, images

    def _step(self, step: int, steps: int, pixels: Tensor, targets: Tensor, *, frozen: bool) -> Tensor:
        accumulate = self.config.accumulate
        group_begin = step - step % accumulate
        group_size = min(accumulate, steps - group_begin)
        last = step + 1 == group_begin + group_size
        images, targets = self.normalise(pixels), targets.to(self.device, non_blocking=True)
        if self.mixup:
            images, targets = self.mixup(images, targets)
        with self._autocast():
            logits = self._logits(images, frozen=frozen)
        loss: Tensor = self.loss(logits.float(), targets)
        clip = self.config.clip_grad or None
        if self.scaler:
            self.scaler(loss / group_size, self.optimizer, clip_grad=clip, parameters=self.parameters, need_update=last)
        else:
            (loss / group_size).backward()
            if last:
                if clip:
                    dispatch_clip_grad(self.parameters, clip, mode="norm")
                self.optimizer.step()
        if last:
            self.optimizer.zero_grad()
            self.updates += 1
            self.scheduler.step_update(self.updates)
            if self.ema:
                self.ema.update(self.model, step=self.updates)
        return loss

    def _logits(self, images: Tensor, *, frozen: bool) -> Tensor:
        model: Any = self.model
        if not frozen:
            logits: Tensor = model(images)
        else:
            with torch.no_grad():
                features = model.forward_features(images)
            logits = model.forward_head(features)
        return logits

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if self.config.amp == "none":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=dtypes[self.config.amp])

    def _sum_losses(self, held: list[tuple[Tensor, int]], done: int, step: int) -> float:
        values: list[float] = torch.stack([loss for loss, _ in held]).tolist()
        for i, value in enumerate(values):
            if not math.isfinite(value):
                raise self._diverged("training loss", value, done, step + 1 - len(values) + i)
        return sum(value * count for value, (_, count) in zip(values, held, strict=True))

    def _diverged(self, what: str, value: float, done: int, step: int) -> TrainingDivergedError:
        kept = f"epoch {done} is kept" if done else "no epoch was finished"
        return TrainingDivergedError(
            f"the {what} is not finite",
            got=f"{value} at step {step + 1} of epoch {done + 1}, lr {self._lr():.1e}; {kept}",
            expected="a finite number",
            hint="start again with a lower --lr, a longer --warmup-epochs, or --clip-grad 1",
        )


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Iterable[Batch], num_classes: int, device: torch.device) -> Scores:
    """Validates in float32 and in evaluation mode, as the exported model will compute.

    Args:
        model: `[B, 3, H, W]` float32 to `[B, num_classes]` logits.
        batches: Normalised images and class indices.
        num_classes: Of the logits.
        device: Where the model is.
    """
    model.eval()
    confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=device)
    loss_sum, top5_sum = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(2))
    count = 0
    for images, targets_here in batches:
        targets = targets_here.to(device, non_blocking=True)
        logits: Tensor = model(images.to(device, non_blocking=True)).float()
        loss_sum += nn.functional.cross_entropy(logits, targets, reduction="sum")
        confusion += torch.bincount(targets * num_classes + logits.argmax(dim=1), minlength=num_classes**2)
        if num_classes > 5:
            top5_sum += (logits.topk(5).indices == targets[:, None]).any(dim=1).sum()
        count += len(targets)
    counts = confusion.view(num_classes, num_classes)
    return Scores(
        loss=float(loss_sum / count),
        top1=float(counts.diagonal().sum() / count),
        top5=float(top5_sum / count) if num_classes > 5 else None,
        confusion=as_confusion(counts),
    )
