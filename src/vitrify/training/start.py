"""The model at the beginning of a run: from random weights, timm's pretrained ones, or a checkpoint."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.data.config import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitrify import __version__
from vitrify.artifacts import Artifact
from vitrify.checkpoints import Overrides, build_model, load_checkpoint, replace_head
from vitrify.errors import OptionError
from vitrify.progress import SILENT, Progress
from vitrify.spec import InputSpec, KwargValue, ModelSpec, Preprocess, Source
from vitrify.training.config import DEFAULT_ARCH, TrainConfig
from vitrify.training.randomness import kept_random_state


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run begins with.

    Attributes:
        model: On the CPU, float32, with a head for the labels; the backbone needs no gradient where it is frozen.
        spec: Goes into every checkpoint of the run; its preprocessing is what the validation uses.
        notes: Decisions that were taken for the user, one sentence each.
    """

    model: nn.Module
    spec: ModelSpec
    notes: tuple[str, ...]


def make_start(config: TrainConfig, labels: tuple[str, ...], progress: Progress = SILENT) -> Start:
    """Builds the model. A new head takes its random numbers from the seed.

    Args:
        config: `init`, `arch`, `model_kwargs`, `img_size`, `freeze`, `seed` and the evaluation transform are used.
        labels: One name a class.
        progress: Is told when a head is replaced or position embeddings are resampled.

    Raises:
        OptionError: The architecture, its arguments and the checkpoint do not fit each other.
        CheckpointError: The initial weights cannot be had.
    """
    with kept_random_state():
        torch.manual_seed(config.seed)
        if config.init in ("none", "pretrained"):
            model, source, base, notes = _from_timm(config, len(labels))
        else:
            model, source, base, notes = _from_checkpoint(config, labels, progress)
    for note in notes:
        progress.say(note)
    if config.freeze == "backbone":
        _freeze_backbone(model)
    preprocess = _evaluation_transform(base, config)
    spec = ModelSpec(
        input=InputSpec(height=preprocess.crop_height, width=preprocess.crop_width),
        preprocess=preprocess,
        labels=labels,
        source=dataclasses.replace(source, created_by=f"vitrify {__version__}"),
    )
    return Start(model=model, spec=spec, notes=notes)


def resume_start(checkpoint: Path, config: TrainConfig) -> Start:
    """Builds the model of a run that goes on, without what it began with; its weights come from the run's state.

    Args:
        checkpoint: The run's last.safetensors, for its spec.
        config: `drop_path` and `freeze` are used.

    Raises:
        ArtifactError: The file is gone or damaged.
    """
    spec = Artifact.open(checkpoint).spec
    source = spec.source
    model = _vit(
        build_model(
            source.architecture,
            num_classes=len(spec.labels),
            model_kwargs=source.model_kwargs,
            drop_path_rate=config.drop_path,
        )
    )
    if config.freeze == "backbone":
        _freeze_backbone(model)
    return Start(model=model, spec=spec, notes=())


_Built = tuple[VisionTransformer, Source, Preprocess, tuple[str, ...]]


def _from_timm(config: TrainConfig, num_classes: int) -> _Built:
    arch = config.arch or DEFAULT_ARCH
    kwargs = dict(config.model_kwargs)
    if config.img_size is not None:
        kwargs["img_size"] = config.img_size
    pretrained = config.init == "pretrained"
    model = _vit(
        build_model(
            arch, num_classes=num_classes, model_kwargs=kwargs, pretrained=pretrained, drop_path_rate=config.drop_path
        )
    )
    height, width = model.patch_embed.img_size or (224, 224)
    data_config = resolve_model_data_config(model, args={"input_size": (3, height, width)})
    base = Preprocess.from_timm(data_config)
    notes: list[str] = []
    if pretrained:
        known: Any = model.pretrained_cfg or {}
        if (before := known.get("num_classes")) and before != num_classes:
            notes.append(f"head replaced: {before} -> {num_classes} classes")
        side = (known.get("input_size") or (3, height, width))[1:]
        if tuple(side) != (height, width):
            notes.append(f"position embeddings resampled: {side[0]} x {side[1]} -> {height} x {width} pixels")
    return model, Source(architecture=arch, model_kwargs=kwargs), base, tuple(notes)


def _from_checkpoint(config: TrainConfig, labels: tuple[str, ...], progress: Progress) -> _Built:
    size = config.img_size or config.model_kwargs.get("img_size")
    sides = (size, size) if isinstance(size, int) else None
    checkpoint = load_checkpoint(
        Path(config.init), overrides=Overrides(architecture=config.arch, img_size=sides), progress=progress
    )
    if checkpoint.num_classes != len(labels):
        checkpoint = replace_head(checkpoint, len(labels))
    notes = list(checkpoint.notes)
    if checkpoint.labels and checkpoint.labels != labels:
        notes.append("the checkpoint's labels are not those of the folder: its head learns them anew")
    asked = {key: value for key, value in config.model_kwargs.items() if key != "img_size"}
    kwargs: dict[str, KwargValue] = {**checkpoint.source.model_kwargs, **asked}
    # Built again, because stochastic depth is an argument of the construction.
    model = build_model(
        checkpoint.source.architecture, num_classes=len(labels), model_kwargs=kwargs, drop_path_rate=config.drop_path
    )
    try:
        model.load_state_dict(checkpoint.model.state_dict())
    except RuntimeError as error:
        raise OptionError(
            f"{config.init} does not fit the model's arguments",
            got=", ".join(f"{key}={value}" for key, value in asked.items()) or "none",
            expected=f"arguments that keep the shapes of {checkpoint.source.architecture} in the checkpoint",
            hint="leave model_kwargs away: a checkpoint tells its own",
        ) from error
    return _vit(model), dataclasses.replace(checkpoint.source, model_kwargs=kwargs), checkpoint.preprocess, tuple(notes)


def _vit(model: nn.Module) -> VisionTransformer:
    assert isinstance(model, VisionTransformer), type(model)
    return model


def _freeze_backbone(model: VisionTransformer) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    heads = model.get_classifier()
    for head in heads if isinstance(heads, tuple) else (heads,):  # a distilled DeiT has two
        for parameter in head.parameters():
            parameter.requires_grad_(True)


def _evaluation_transform(base: Preprocess, config: TrainConfig) -> Preprocess:
    """The model's own transform, with what the options change."""
    rule = config.resize_rule or base.resize_rule
    height, width = base.resize_height, base.resize_width
    if config.crop_pct is not None:
        # timm's rounding, so that the same option gives the same pixels there.
        height, width = (math.floor(side / config.crop_pct) for side in (base.crop_height, base.crop_width))
    if config.img_size is not None and (base.crop_height, base.crop_width) != (config.img_size, config.img_size):
        raise OptionError(
            "the model does not take the image size",
            got=f"{base.crop_height} x {base.crop_width}",
            expected=f"{config.img_size} x {config.img_size}",
        )
    mean_pixel = tuple(round(255 * m) for m in base.mean)
    return dataclasses.replace(
        base,
        resize_rule=rule,
        resize_height=height,
        resize_width=width,
        interpolation=config.interpolation or base.interpolation,
        fill=(mean_pixel[0], mean_pixel[1], mean_pixel[2]) if rule == "longest" else base.fill,
    )
