"""`vitrify train`: from an image folder to a checkpoint that carries its spec."""

from __future__ import annotations

import importlib.util
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitrify import __version__
from vitrify.datasets import (
    BadImage,
    ImageFolder,
    bad_images_error,
    check_images,
    scan_folder,
    scan_train_val,
    stratified_split,
)
from vitrify.errors import DatasetError, MissingExtraError, OptionError, TrainingDivergedError
from vitrify.files import atomic_write, locked_folder
from vitrify.progress import SILENT, Progress
from vitrify.spec import KwargValue, Result
from vitrify.spec.codec import encode
from vitrify.text import for_json, for_terminal
from vitrify.training.config import TrainConfig

if TYPE_CHECKING:
    from vitrify.training.data import ImageCache, Loaders
    from vitrify.training.run_folder import RunFolder
    from vitrify.training.start import Start
    from vitrify.training.state import RunState


@dataclass(frozen=True, kw_only=True)
class TrainResult(Result):
    """What a run gave.

    Attributes:
        best: best.safetensors, the checkpoint of the best epoch.
        best_epoch: Counted from 1.
        top1: Validation accuracy of that epoch, 0 to 1. The epoch was chosen by it, so it is slightly optimistic.
        last_top1: Validation accuracy of the last epoch, which was not chosen.
        epochs: Epochs done; fewer than asked for where the patience was used up.
        train_count: Images that were learnt from.
        val_count: Images that were validated with.
        seconds: Of this call, checking the images included.
        labels: One name a class, in the order of the logits.
        notes: Decisions that were taken for the user, one sentence each.
    """

    best: Path
    best_epoch: int
    top1: float
    last_top1: float
    epochs: int
    train_count: int
    val_count: int
    seconds: float
    labels: tuple[str, ...]
    notes: tuple[str, ...]


def checkpoint_from_images(
    data: Path, output: Path, config: TrainConfig | None = None, progress: Progress = SILENT
) -> TrainResult:
    """Trains a Vision Transformer on an image folder.

    Every image is decoded once before the training begins. Each epoch leaves a complete run folder behind (see
    `vitrify.training.run_folder`); Ctrl-C therefore loses the current epoch at most, and `resume` goes on to the same
    weights as a run that was never stopped (bit for bit on a CPU with the same number of threads).

    Args:
        data: `data/<class>/*.jpg`, split here, or `data/train/<class>` and `data/val/<class>`.
        output: The run's folder.
        config: How to train; the default fine-tunes vit_base_patch16_224.
        progress: A bar for each epoch, and one line.

    Returns:
        Where the best checkpoint is and how good.

    Raises:
        OptionError: Options that cannot be used, or that do not fit the run that is to be resumed.
        DatasetError: A folder that cannot be trained on; lists the unreadable images.
        CheckpointError: The initial weights cannot be had.
        MissingExtraError: PyTorch, timm, TensorBoard or matplotlib is not installed.
        TrainingDivergedError: A loss is not finite; the run folder keeps the last good epoch.
        FolderInUseError: Another process trains into the run folder.
        StorageError: The run folder cannot be written.
        KeyboardInterrupt: After the run folder was brought up to date.
    """
    began = time.perf_counter()
    data, output, config = Path(data), Path(output), (config or TrainConfig()).resolved()
    _check_extra()
    from vitrify.training.data import ImageCache, make_loaders
    from vitrify.training.recipe import make_device
    from vitrify.training.run_folder import RunFolder, check_place, check_run, settle
    from vitrify.training.start import make_start, resume_start
    from vitrify.training.state import RunState, fingerprint

    check_place(output, data)
    device = make_device(config)
    with locked_folder(output):
        if settle(output):
            progress.say(f"put back the run in {output}, which another one was to replace and did not")
        check_run(output, config)
        images = _read_images(data, config, progress, ImageCache(config.cache_mb << 20))
        with RunFolder(output, config, fingerprint(images.train, images.val)) as run:
            if config.resume:
                state = run.load()
                start = resume_start(run.last, config)
            else:
                start = make_start(config, images.train.labels, progress)
                state = RunState(notes=(*images.notes, *start.notes))
            pin = device.type == "cuda"
            loaders = make_loaders(images.train, images.val, config, start.spec.preprocess, cache=images.cache, pin=pin)
            if config.overwrite:
                run.replace()  # not before everything that could be wrong with the new run has been looked at
            _write_config(output / "config.json", data, config, images, device=str(device))
            job = _Job(data=data, config=config, run=run, state=state, start=start, images=images, progress=progress)
            _fit_and_document(job, loaders)
    best, last = state.best, state.history[-1]
    assert best is not None
    return TrainResult(
        best=run.best,
        best_epoch=best.epoch,
        top1=best.val_top1,
        last_top1=last.val_top1,
        epochs=state.epoch,
        train_count=len(images.train),
        val_count=len(images.val),
        seconds=time.perf_counter() - began,
        labels=images.train.labels,
        notes=state.notes,
    )


def parse_model_kwargs(items: Sequence[str]) -> dict[str, KwargValue]:
    """Reads `patch_size=8 depth=4 qkv_bias=false` as typed.

    `true`, `false` and `none` count without regard to case; `8,8` is a tuple of integers; what is no number is text.

    Raises:
        OptionError: An item without a name or without `=`, or a name given twice.
    """
    kwargs: dict[str, KwargValue] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            raise OptionError(
                "a model argument is not NAME=VALUE",
                got=repr(item),
                expected="such as patch_size=8",
                hint="quote spaces",
            )
        if name in kwargs:
            raise OptionError("a model argument is given twice", got=name, expected="each name once")
        kwargs[name] = _value(text)
    return kwargs


def _check_extra() -> None:
    # All at once and first: TensorBoard would otherwise be missed after an epoch, matplotlib after the last.
    for package in ("torch", "torchvision", "timm", "safetensors", "tensorboard", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError("training needs PyTorch, timm and their company", extra="train", package=package)


def _value(text: str) -> KwargValue:
    words: Mapping[str, bool | None] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    try:
        return tuple(int(part) for part in text.strip("()").split(",")) if "," in text else text
    except ValueError:
        return text


@dataclass(frozen=True, kw_only=True)
class _Images:
    train: ImageFolder
    val: ImageFolder
    ready_split: bool
    cache: ImageCache
    notes: tuple[str, ...]


def _read_images(data: Path, config: TrainConfig, progress: Progress, cache: ImageCache) -> _Images:
    """Scans, checks and splits, in this order: a split must not change with what is left out of it later."""
    ready = scan_train_val(data)
    folders: tuple[ImageFolder, ...] = ready or (scan_folder(data),)
    _check_names(folders[0].labels, data)
    bad = check_images([path for folder in folders for path in folder.paths], progress, keep=cache.keep)
    notes: tuple[str, ...] = ()
    if bad:
        if not config.skip_bad:
            raise bad_images_error(bad, data, hint="repair or remove them, or train without them: --skip-bad")
        notes = (_skipped(bad, data),)
        progress.say(notes[0])
        folders = tuple(folder.without([path for path, _ in bad]) for folder in folders)
    train, val = folders if len(folders) == 2 else stratified_split(folders[0], config.val_fraction, config.seed)
    progress.say(f"{len(train.labels)} classes, {len(train)} images to train on, {len(val)} to validate with")
    return _Images(train=train, val=val, ready_split=ready is not None, cache=cache, notes=notes)


def _check_names(labels: Sequence[str], data: Path) -> None:
    wrong = [label for label in labels if not label.isascii() and any("\ud800" <= c <= "\udfff" for c in label)]
    if wrong:
        raise DatasetError(
            f"the name of a class folder of {data} is no UTF-8, and a checkpoint could not hold it as a label",
            got=", ".join(for_terminal(label) for label in wrong[:8]),
            expected="names in UTF-8",
            hint="rename the folder, or convert all names with convmv",
        )


def _skipped(bad: Sequence[BadImage], data: Path) -> str:
    names = ", ".join(path.relative_to(data).as_posix() for path, _ in bad[:5])
    return (
        f"left out {len(bad)} unreadable image{'s' if len(bad) > 1 else ''}: {names}{', ...' if len(bad) > 5 else ''}"
    )


@dataclass(frozen=True, kw_only=True)
class _Job:
    data: Path
    config: TrainConfig
    run: RunFolder
    state: RunState
    start: Start
    images: _Images
    progress: Progress


def _fit_and_document(job: _Job, loaders: Loaders) -> None:
    from vitrify.training.loop import fit

    state, config = job.state, job.config
    if state.epoch:
        over = (
            "it is over, nothing is left to do" if state.is_over(config) else f"going on with epoch {state.epoch + 1}"
        )
        job.progress.say(f"resumed after epoch {state.epoch}: {over}")
    try:
        fit(job.start, loaders, config, run=job.run, state=state, progress=job.progress)
    except (KeyboardInterrupt, TrainingDivergedError) as stop:
        if state.history:
            _document(job)
        if isinstance(stop, KeyboardInterrupt):
            kept = f"{state.epoch} of {config.epochs} epochs are kept in {job.run.path}"
            how = "go on with the same command and --resume" if state.history else "start again with the same command"
            if job.run.replaces:
                kept = f"the earlier run stays in {job.run.path}"
            job.progress.say(f"interrupted; {kept}; {how}")
        raise
    _document(job)


def _document(job: _Job) -> None:
    from vitrify.plots import confusion_matrix
    from vitrify.training.report import ReportInput, curves_picture, report_text

    state, labels, folder = job.state, job.start.spec.labels, job.run.path
    assert state.best is not None
    assert state.best_confusion is not None
    title = f"{job.start.spec.source.architecture} on {job.data.name}"
    curves_picture(folder / "curves.png", state.history, state.best, title)
    matrix_title = f"{title}\nepoch {state.best.epoch}, top-1 {state.best.val_top1:.2%}"
    confusion_matrix(folder / "confusion.png", state.best_confusion, labels, matrix_title)
    told = ReportInput(
        data=job.data,
        run=folder,
        config=job.config,
        spec=job.start.spec,
        train=job.images.train,
        val=job.images.val,
        ready_split=job.images.ready_split,
        state=state,
        notes=state.notes,
    )
    atomic_write(folder / "report.md", report_text(told))


def _write_config(path: Path, data: Path, config: TrainConfig, images: _Images, *, device: str) -> None:
    import timm
    import torch

    record = {
        "data": str(data),
        "options": encode(config),
        "labels": list(images.train.labels),
        "train_images": len(images.train),
        "val_images": len(images.val),
        "device": device,
        "versions": {
            "vitrify": __version__,
            "torch": str(torch.__version__),
            "timm": timm.__version__,
            "python": platform.python_version(),
        },
    }
    atomic_write(path, for_json(json.dumps(record, indent=2, ensure_ascii=False)) + "\n")
