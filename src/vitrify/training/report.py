"""report.md and curves.png: what was trained on what, how well, and how to go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vitrify import plots
from vitrify.datasets import ImageFolder
from vitrify.spec import ModelSpec
from vitrify.text import for_markdown, for_markdown_code, for_shell
from vitrify.training.config import TrainConfig
from vitrify.training.metrics import EpochRow, class_scores, worst_confusions
from vitrify.training.state import RunState

_CAVEAT = (
    "The best epoch was chosen by this very accuracy, which makes it slightly optimistic; the last epoch's was not "
    "chosen. For a number to publish, evaluate on images that took no part here."
)


@dataclass(frozen=True, kw_only=True)
class ReportInput:
    """What the report tells of.

    Attributes:
        data: The image folder.
        run: The run's folder.
        config: Resolved options.
        spec: Of the checkpoints.
        train: Images that were learnt from.
        val: Images that were validated with.
        ready_split: Whether the folder came with train/ and val/.
        state: After the last epoch.
        notes: Decisions that were taken for the user.
    """

    data: Path
    run: Path
    config: TrainConfig
    spec: ModelSpec
    train: ImageFolder
    val: ImageFolder
    ready_split: bool
    state: RunState
    notes: tuple[str, ...]


def report_text(told: ReportInput) -> str:
    """The report in Markdown."""
    state, config = told.state, told.config
    assert state.best_confusion is not None
    labels = told.spec.labels
    over = state.is_over(config)
    parts = [
        f"# {for_markdown(told.spec.source.architecture)} on {for_markdown(told.data.name)}",
        _summary(told, over=over),
        _CAVEAT,
        "![losses, accuracy and learning rate](curves.png)",
        "## Images",
        _table(
            ("class", "training", "validation"),
            [
                *zip(map(for_markdown, labels), told.train.counts, told.val.counts, strict=True),
                ("**all**", len(told.train), len(told.val)),
            ],
        ),
        _split_sentence(told),
        "## Results of the best epoch",
        _metrics_table(told),
        _table(
            ("class", "images", "precision", "recall"),
            [
                (for_markdown(s.label), s.count, _percent(s.precision), _percent(s.recall))
                for s in class_scores(state.best_confusion, labels)
            ],
        ),
        "### Most frequent mistakes",
        _mistakes(told),
        "![confusion matrix](confusion.png)",
        "## Model and options",
        _model_sentence(told),
        *([_bullets(told.notes)] if told.notes else []),
        _table(("option", "value"), [(f"`{f.name}`", _shown(getattr(config, f.name))) for f in fields(config)]),
        "## How to go on",
        _next_steps(told, over=over),
    ]
    return "\n\n".join(parts) + "\n"


def curves_picture(path: Path, rows: Sequence[EpochRow], best: EpochRow, title: str) -> None:
    """Draws losses, validation accuracy and learning rate over the epochs.

    Args:
        path: A PNG file.
        rows: At least one epoch.
        best: Is marked.
        title: Above the panels.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = plots.empty_figure(12.5, 4.2)
    loss, accuracy, rate = figure.subplots(1, 3, width_ratios=[5, 5, 3])
    epochs = [row.epoch for row in rows]
    style: dict[str, Any] = {"linewidth": 1.8, "marker": "o" if len(rows) <= 15 else "", "markersize": 3.5}
    loss.plot(epochs, [row.train_loss for row in rows], color=plots.BLUE, label="training", **style)
    loss.plot(epochs, [row.val_loss for row in rows], color=plots.ORANGE, label="validation", **style)
    loss.set_title("loss")
    loss.set_ylim(bottom=0)
    accuracy.plot(epochs, [row.val_top1 for row in rows], color=plots.ORANGE, label="top-1", **style)
    top5 = [row.val_top5 for row in rows if row.val_top5 is not None]
    if len(top5) == len(rows):
        accuracy.plot(epochs, top5, color=plots.GREY, label="top-5", **style)
    label = f"best: {best.val_top1:.2%}, epoch {best.epoch}"
    star: dict[str, Any] = {"linestyle": "", "marker": "*", "markersize": 13, "zorder": 5}
    accuracy.plot([best.epoch], [best.val_top1], color=plots.GREEN, label=label, **star)
    accuracy.set_title("validation accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    rate.plot(epochs, [row.lr for row in rows], color=plots.GREY, **style)
    rate.set_title("learning rate")
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    margin = max(0.5, len(rows) / 40)
    for panel in (loss, accuracy, rate):
        panel.set_xlabel("epoch")
        panel.set_xlim(1 - margin, len(rows) + margin)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    plots.tidy(loss, accuracy, rate)
    loss.legend(frameon=False)
    accuracy.legend(frameon=False, loc="lower right")
    plots.save(figure, path, title)


def _summary(told: ReportInput, *, over: bool) -> str:
    state = told.state
    best, last = state.best, state.history[-1]
    assert best is not None
    seconds = sum(row.seconds for row in state.history)
    return (
        f"Top-1 accuracy on {len(told.val)} validation images: **{best.val_top1:.2%}** in epoch {best.epoch} (best), "
        f"{last.val_top1:.2%} in epoch {last.epoch} (last). {state.epoch} of {told.config.epochs} epochs took "
        f"{_duration(seconds)}.{'' if over else ' The run is not over.'}"
    )


def _split_sentence(told: ReportInput) -> str:
    if told.ready_split:
        return "The split is the folder's own, `train/` and `val/`."
    share, seed = told.config.val_fraction, told.config.seed
    return f"The split was drawn here: {share:.0%} of each class for validation, seed {seed}."


def _metrics_table(told: ReportInput) -> str:
    best, last = told.state.best, told.state.history[-1]
    assert best is not None
    rows = [
        ("epoch", best.epoch, last.epoch),
        ("top-1", f"{best.val_top1:.2%}", f"{last.val_top1:.2%}"),
        ("validation loss", f"{best.val_loss:.4f}", f"{last.val_loss:.4f}"),
        ("training loss", f"{best.train_loss:.4f}", f"{last.train_loss:.4f}"),
        ("training images per second", f"{best.images_per_s:.0f}", f"{last.images_per_s:.0f}"),
    ]
    if best.val_top5 is not None and last.val_top5 is not None:
        rows.insert(2, ("top-5", f"{best.val_top5:.2%}", f"{last.val_top5:.2%}"))
    return _table(("", "best", "last"), rows)


def _mistakes(told: ReportInput) -> str:
    assert told.state.best_confusion is not None
    worst = worst_confusions(told.state.best_confusion, told.spec.labels)
    if not worst:
        return "None."
    rows = [(for_markdown(w.true), for_markdown(w.predicted), w.count, f"{w.share:.1%}") for w in worst]
    return _table(("true", "predicted", "images", "of the true class"), rows)


def _model_sentence(told: ReportInput) -> str:
    source, preprocess = told.spec.source, told.spec.preprocess
    kwargs = " ".join(f"{key}={value}" for key, value in source.model_kwargs.items())
    with_ = f" with {for_markdown_code(kwargs)}" if kwargs else ""
    begins = {"none": "random weights", "pretrained": "pretrained weights"}.get(told.config.init, told.config.init)
    return (
        f"{for_markdown_code(source.architecture)}{with_}, started from {for_markdown(source.checkpoint or begins)}"
        f". Input {preprocess.crop_height} x {preprocess.crop_width} pixels, {preprocess.interpolation}, "
        f"mean {preprocess.mean}, std {preprocess.std}. {for_markdown(source.created_by)}."
    )


def _next_steps(told: ReportInput, *, over: bool) -> str:
    best = for_shell(told.run / "best.safetensors")
    steps = [
        f"vitrify predict {best} IMAGE...",
        f"vitrify export {best} -o model.onnx",
        f"vitrify eval {best} OTHER_IMAGES",
        f"tensorboard --logdir {for_shell(told.run / 'tensorboard')}",
    ]
    if not over:
        run = f"vitrify train {for_shell(told.data)} -o {for_shell(told.run)}"
        steps.insert(0, f"{run} --resume   # and the same options")
    return "```\n" + "\n".join(steps) + "\n```"


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Cells are numbers, or Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {for_markdown(line)}" for line in lines)


def _shown(value: object) -> str:
    if value is None or value in ("", {}):
        return "default"
    if isinstance(value, dict):
        return for_markdown_code(" ".join(f"{key}={item}" for key, item in value.items()))
    return for_markdown_code(str(value))


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
