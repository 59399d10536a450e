"""`load_checkpoint`: a file or a folder in any dialect becomes a timm model."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import torch
from timm.data.config import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitrify import __version__
from vitrify.checkpoints.building import build_without_memory
from vitrify.checkpoints.choosing import Choice, choose, known_sizes, named_architecture, square
from vitrify.checkpoints.dialects import translate
from vitrify.checkpoints.folders import Folder, find_weights
from vitrify.checkpoints.model import Checkpoint, Overrides
from vitrify.checkpoints.reading import SHARED_TIMES, check_tensors, read_weights
from vitrify.checkpoints.sniffing import sniff
from vitrify.checkpoints.unwrapping import Unwrapped, unwrap
from vitrify.errors import CheckpointError, OptionError
from vitrify.progress import SILENT, Progress
from vitrify.spec import SPEC_KEY, KwargValue, ModelSpec, Preprocess, Source


def load_checkpoint(
    path: str | os.PathLike[str], *, overrides: Overrides | None = None, progress: Progress = SILENT
) -> Checkpoint:
    """Loads weights of any dialect into a timm model.

    A file of vitrify's own says everything itself. For any other, the dialect shows in the tensor names and the model
    in their shapes; what neither shows is said in `notes`, and `overrides` decides it otherwise.

    Args:
        path: A weight file, or a folder that Hugging Face's `save_pretrained` wrote.
        overrides: What the user knows better.
        progress: Hears each note.

    Raises:
        CheckpointError: A file that cannot be read, or that holds another network.
        AmbiguousCheckpointError: Several models fit equally well; names the option that decides.
        OptionError: An override that is unknown or contradicts the file.
        SpecVersionError: Written by a newer vitrify.
    """
    overrides = overrides or Overrides()
    folder = find_weights(Path(path))
    content, metadata = read_weights(folder.files[0]) if len(folder.files) == 1 else (folder.read_shards(), {})
    if SPEC_KEY in metadata:
        checkpoint = _load_own(content, ModelSpec.from_json(metadata[SPEC_KEY]), folder, overrides)
    else:
        unwrapped = unwrap(content, raw_weights=overrides.raw_weights, path=folder.path)
        held_bytes = sum(file.stat().st_size for file in folder.files)
        if not all(file.suffix.lower() == ".npz" for file in folder.files):  # whose arrays were added up when read
            check_tensors(unwrapped.tensors, folder.path, SHARED_TIMES * held_bytes)
        del content  # each tensor goes as soon as it is converted
        checkpoint = _load_foreign(unwrapped, folder, overrides)
    for note in checkpoint.notes:
        progress.say(note)
    return checkpoint


def _load_own(tensors: dict[str, torch.Tensor], spec: ModelSpec, folder: Folder, overrides: Overrides) -> Checkpoint:
    source = spec.source
    if overrides not in (Overrides(), _harmless(overrides, source.architecture)):
        raise OptionError(
            f"{folder.path} says itself how its model is built",
            got=", ".join(f"{key}={value}" for key, value in vars(overrides).items() if value),
            expected=f"{source.architecture}, with img_size the only thing that may change",
            hint="leave these options away",
        )
    head = tensors.get("head.weight")
    classes = head.shape[0] if head is not None else 0
    if classes != len(spec.labels):
        raise CheckpointError(
            f"the weights and the spec of {folder.path} disagree",
            got=f"{classes} classes in the head, {len(spec.labels)} labels",
            expected="one label a class",
            hint="train or save it again",
        )
    model = build_without_memory(source.architecture, classes, source.model_kwargs)
    notes: list[str] = []
    _fill(model, tensors, folder.path, notes)
    kwargs = dict(source.model_kwargs)
    wanted = square(overrides.img_size)
    if wanted is not None and wanted != model.patch_embed.img_size:
        kwargs["img_size"] = _resize(model, wanted, notes)
        spec = _resized_spec(spec, wanted)
    return Checkpoint(
        model=model,
        source=_source(source.architecture, kwargs, folder, "vitrify"),
        spec=spec.replace(source=dataclasses.replace(source, model_kwargs=kwargs)),
        preprocess=spec.preprocess,
        labels=spec.labels,
        num_classes=classes,
        notes=tuple(notes),
    )


def _harmless(overrides: Overrides, architecture: str) -> Overrides:
    """The part of `overrides` that a file with a spec can follow."""
    same = architecture if overrides.architecture == architecture else None
    return Overrides(architecture=same, img_size=overrides.img_size, raw_weights=overrides.raw_weights)


def _resized_spec(spec: ModelSpec, size: tuple[int, int]) -> ModelSpec:
    old = spec.preprocess
    return spec.replace(
        input=dataclasses.replace(spec.input, height=size[0], width=size[1]),
        preprocess=dataclasses.replace(
            old,
            resize_height=round(old.resize_height * size[0] / old.crop_height),
            resize_width=round(old.resize_width * size[1] / old.crop_width),
            crop_height=size[0],
            crop_width=size[1],
        ),
        golden=(),  # answers of the old size
        verification=None,
    )


def _load_foreign(unwrapped: Unwrapped, folder: Folder, overrides: Overrides) -> Checkpoint:
    notes = unwrapped.notes
    hints = folder.hints()
    hints.architecture = hints.architecture or unwrapped.architecture
    dialect, tensors = translate(unwrapped.tensors, folder.config, hints, notes)
    unwrapped.tensors = {}
    wanted = square(overrides.img_size)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    head = shapes.get("head.weight", ())
    classes = head[0] if head else 0
    try:
        choice = choose(sniff(shapes, known_sizes(hints, overrides)), hints, overrides)
    except CheckpointError:
        # A relative that cannot be sniffed (parallel or fused blocks) loads where somebody names it.
        named = named_architecture(hints, overrides)
        if named is None or ("patch_embed.proj.weight" not in shapes):
            raise
        choice = Choice(architecture=named)
    notes += choice.notes
    model = build_without_memory(choice.architecture, classes, choice.model_kwargs)
    _fill(model, tensors, folder.path, notes)
    kwargs = dict(choice.model_kwargs)
    if wanted is not None and wanted != model.patch_embed.img_size:
        kwargs["img_size"] = _resize(model, wanted, notes)
    return Checkpoint(
        model=model,
        source=_source(choice.architecture, kwargs, folder, dialect),
        spec=None,
        preprocess=folder.preprocess(model.patch_embed.img_size, notes) or _timm_preprocess(model),
        labels=folder.labels(classes),
        num_classes=classes,
        notes=tuple(notes),
    )


def _fill(model: VisionTransformer, tensors: dict[str, torch.Tensor], path: object, notes: list[str]) -> None:
    """Moves `tensors` into a model on the meta device and empties the dict, so that there are never three copies."""
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    missing = [f"{name} {list(shape)}" for name, shape in expected.items() if name not in tensors]
    unexpected = [f"{name} {list(tensor.shape)}" for name, tensor in tensors.items() if name not in expected]
    other = [
        f"{name} {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if missing or unexpected or other:
        raise CheckpointError(
            f"the tensors of {path} do not fit the model that they look like",
            got="; ".join(
                f"{len(names)} {kind}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
                for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
                if names
            ),
            expected=f"the {len(expected)} tensors of a {type(model).__name__}",
            hint="--arch NAME tells which timm model it is",
        )
    if strange := [f"{name} {tensor.dtype}" for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise CheckpointError(
            f"{path} holds weights that are no floating-point numbers",
            got=", ".join(strange[:3]),
            expected="float32, float16, bfloat16 or float64",
            hint="a quantised checkpoint cannot be widened: use the one it was made from",
        )
    weights: dict[str, torch.Tensor] = {}
    kinds = {tensor.dtype for tensor in tensors.values()} - {torch.float32}
    for name in list(tensors):
        # A copy of its own: neither a view into a larger tensor nor memory that is mapped from the file.
        weights[name] = tensors.pop(name).to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        if not torch.isfinite(weights[name]).all():
            raise CheckpointError(
                f"{path} holds numbers that are not finite",
                got=f"NaN or infinity in {name}",
                expected="finite weights",
                hint="the training that wrote it has diverged: take an earlier checkpoint",
            )
    model.load_state_dict(weights, strict=True, assign=True)
    model.eval()
    if kinds:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        notes.append(f"weights stored as {names} were widened to float32")
    head = model.head
    if isinstance(head, nn.Linear) and not head.weight.any():
        notes.append("the head is all zeros: these weights are for a new head (--init), they classify nothing")


def _resize(model: VisionTransformer, size: tuple[int, int], notes: list[str]) -> KwargValue:
    patch = model.patch_embed.patch_size
    if size[0] % patch[0] or size[1] % patch[1]:
        raise OptionError(
            "the patches do not divide the image size",
            got=f"{size[0]} x {size[1]}",
            expected=f"multiples of {patch[0]} x {patch[1]}",
        )
    old = model.patch_embed.img_size
    model.set_input_size(img_size=size)
    notes.append(f"position embedding resampled: {old[0]} x {old[1]} -> {size[0]} x {size[1]} pixels")
    return size[0] if size[0] == size[1] else size


def _timm_preprocess(model: VisionTransformer) -> Preprocess:
    config = resolve_model_data_config(model)
    return Preprocess.from_timm({**config, "input_size": (3, *model.patch_embed.img_size)})


def _source(architecture: str, kwargs: dict[str, KwargValue], folder: Folder, dialect: str) -> Source:
    return Source(
        architecture=architecture,
        model_kwargs=kwargs,
        checkpoint=folder.name,
        checkpoint_sha256=folder.sha256(),
        dialect=dialect,
        created_by=f"vitrify {__version__}",
    )
