from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from vitrify.artifacts import read_spec
from vitrify.errors import DatasetError, MissingExtraError, OptionError, TrainingDivergedError
from vitrify.training import TrainConfig
from vitrify.workflows.train import TrainResult, checkpoint_from_images, parse_model_kwargs

T = TypeVar("T")

TINY = TrainConfig(
    arch="vit_tiny_patch16_224",
    init="none",
    model_kwargs={"patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2},
    img_size=16,
    epochs=3,
    batch_size=8,
    lr=2e-3,
    color_jitter=0.0,
    hflip=False,
    device="cpu",
)


class Listener:
    """Hears what is said, and can interrupt in the middle of an epoch as Ctrl-C does."""

    def __init__(self, interrupt_in_epoch: int = 0) -> None:
        self.said: list[str] = []
        self._interrupt = f"epoch {interrupt_in_epoch}/"

    def say(self, message: str) -> None:
        self.said.append(message)

    def track(self, items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
        for count, item in enumerate(items):
            if label.startswith(self._interrupt) and count == 2:
                raise KeyboardInterrupt
            yield item


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # Two threads that wait for each other on a busy machine are ten times slower than one.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_images(root: Path, classes: int = 3, per_class: int = 16, suffix: str = ".png") -> Path:
    """Noise with a bright bar whose place tells the class."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"bar{label}"
        folder.mkdir(parents=True, exist_ok=True)
        for n in range(per_class):
            pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            pixels[label * 16 // classes : (label + 1) * 16 // classes] += 110
            Image.fromarray(pixels).save(folder / f"{n:02}{suffix}")
    return root


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "bars")


def config(**changes: Any) -> TrainConfig:
    return dataclasses.replace(TINY, **changes)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


def test_it_learns_and_leaves_a_whole_run_folder(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = checkpoint_from_images(images, run, config(epochs=6))
    assert result.top1 > 0.9
    assert result.labels == ("bar0", "bar1", "bar2")
    assert (result.train_count, result.val_count, result.epochs) == (39, 9, 6)
    assert {path.name for path in run.iterdir()} == {
        *("best.safetensors", "last.safetensors", "metrics.csv", "curves.png", "confusion.png"),
        *("report.md", "config.json", "state.pt", "tensorboard"),
    }
    spec = read_spec(result.best)
    assert spec.labels == result.labels
    assert (spec.input.height, spec.input.width) == (16, 16)
    assert spec.source.architecture == "vit_tiny_patch16_224"
    assert spec.source.model_kwargs == {**TINY.model_kwargs, "img_size": 16}
    assert spec.source.created_by.startswith("vitrify ")
    assert json.loads((run / "config.json").read_text())["options"]["lr"] == 2e-3
    assert len(list((run / "tensorboard").iterdir())) == 1
    for name in ("curves.png", "confusion.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG\r\n")


def test_metrics_and_report_tell_the_same_story(images: Path, tmp_path: Path) -> None:
    result = checkpoint_from_images(images, tmp_path / "run", TINY)
    rows = list(csv.DictReader((tmp_path / "run/metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert list(rows[0]) == [
        *("epoch", "lr", "train_loss", "val_loss", "val_top1", "val_top5", "images_per_s", "seconds")
    ]
    assert all(
        float(row["train_loss"]) > 0 and float(row["images_per_s"]) > 0 and row["val_top5"] == "" for row in rows
    )
    best = rows[result.best_epoch - 1]
    assert float(best["val_top1"]) == pytest.approx(max(float(row["val_top1"]) for row in rows))
    assert result.top1 == pytest.approx(float(best["val_top1"]), abs=1e-5)
    report = (tmp_path / "run/report.md").read_text()
    for expected in (f"**{result.top1:.2%}**", "20% of each class", "| bar1 | 13 | 3 |", "`lr`", "vitrify export"):
        assert expected in report


def test_the_saved_weights_are_the_ones_that_were_measured(images: Path, tmp_path: Path) -> None:
    from vitrify.checkpoints import load_checkpoint
    from vitrify.datasets import scan_folder, stratified_split
    from vitrify.pixels import preprocess

    result = checkpoint_from_images(images, tmp_path / "run", config(ema_decay=0.9))
    checkpoint = load_checkpoint(result.best)
    _, val = stratified_split(scan_folder(images), TINY.val_fraction, TINY.seed)
    with torch.inference_mode():
        logits = checkpoint.model(torch.from_numpy(preprocess(val.paths, checkpoint.preprocess)))
    right = logits.argmax(dim=1) == torch.tensor([target for _, target in val.samples])
    assert right.float().mean().item() == pytest.approx(result.top1)


EVERYTHING = config(
    epochs=4,
    hflip=True,
    color_jitter=0.3,
    auto_augment="rand-m5-mstd0.5",
    reprob=0.5,
    mixup=0.4,
    cutmix=0.4,
    ema_decay=0.95,
    drop_path=0.2,
    accumulate=2,
    warmup_epochs=1,
    layer_decay=0.8,
)


def test_a_run_that_goes_on_ends_as_one_that_never_stopped(images: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    uninterrupted = checkpoint_from_images(images, whole, EVERYTHING)
    listener = Listener(interrupt_in_epoch=3)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_from_images(images, parted, EVERYTHING, listener)
    assert "2 of 4 epochs are kept" in listener.said[-1]
    assert "--resume" in listener.said[-1]
    assert "The run is not over" in (parted / "report.md").read_text()
    torch.manual_seed(123)  # what the host draws in between must not matter
    resumed = checkpoint_from_images(images, parted, dataclasses.replace(EVERYTHING, resume=True))
    for name in ("last.safetensors", "best.safetensors"):
        assert_same_weights(whole / name, parted / name)
    assert (resumed.top1, resumed.best_epoch) == (uninterrupted.top1, uninterrupted.best_epoch)
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (whole, parted)]
    assert all(torch.equal(states[0]["model"][name], states[1]["model"][name]) for name in states[0]["model"])
    assert len((parted / "metrics.csv").read_text().splitlines()) == 5


def test_resuming_a_finished_run_changes_nothing(images: Path, tmp_path: Path) -> None:
    first = checkpoint_from_images(images, tmp_path / "run", TINY)
    before = first.best.read_bytes()
    listener = Listener()
    again = checkpoint_from_images(images, tmp_path / "run", config(resume=True), listener)
    assert (again.top1, again.epochs) == (first.top1, 3)
    assert first.best.read_bytes() == before
    assert any("nothing is left to do" in message for message in listener.said)


def test_resume_says_which_options_differ(images: Path, tmp_path: Path) -> None:
    checkpoint_from_images(images, tmp_path / "run", config(epochs=1))
    with pytest.raises(OptionError, match=r"(?s)other options.*got: epochs=2, lr=0.1.*expected: epochs=1, lr=0.002"):
        checkpoint_from_images(images, tmp_path / "run", config(epochs=2, lr=0.1, warmup_epochs=0.1, resume=True))
    make_images(images, classes=3, per_class=18)
    with pytest.raises(OptionError, match="images are not those"):
        checkpoint_from_images(images, tmp_path / "run", config(epochs=1, resume=True))


def test_a_run_is_neither_overwritten_nor_resumed_by_accident(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(OptionError, match="no run to resume"):
        checkpoint_from_images(images, run, config(resume=True))
    checkpoint_from_images(images, run, config(epochs=1))
    with pytest.raises(OptionError, match=r"(?s)holds a run.*--resume.*--overwrite"):
        checkpoint_from_images(images, run, config(epochs=1))
    with pytest.raises(OptionError, match="auto_augment"):
        checkpoint_from_images(images, run, config(overwrite=True, auto_augment="nonsense"))
    assert (run / "state.pt").exists()
    (run / "mine.txt").write_text("not of the run")
    assert checkpoint_from_images(images, run, config(epochs=2, overwrite=True)).epochs == 2
    assert (run / "mine.txt").exists()
    with pytest.raises(OptionError, match="inside the images"):
        checkpoint_from_images(images, images / "run", TINY)
    with pytest.raises(OptionError, match="is a file"):
        checkpoint_from_images(images, run / "mine.txt", TINY)


def test_a_new_head_is_announced_and_a_frozen_backbone_stays_as_it_was(images: Path, tmp_path: Path) -> None:
    base = checkpoint_from_images(images, tmp_path / "base", config(epochs=2))
    fewer = make_images(tmp_path / "two", classes=2)
    listener = Listener()
    tuned = checkpoint_from_images(
        fewer,
        tmp_path / "tuned",
        TrainConfig(init=str(base.best), freeze="backbone", epochs=2, batch_size=8, device="cpu"),
        listener,
    )
    assert "head replaced: 3 -> 2 classes" in listener.said
    before, after = weights(base.best), weights(tuned.best)
    changed = (
        {name for name in before if not torch.equal(before[name], after[name])}
        if before.keys() == after.keys()
        else None
    )
    assert changed == {"head.weight", "head.bias"}
    source = read_spec(tuned.best).source
    assert (source.architecture, source.checkpoint) == ("vit_tiny_patch16_224", "best.safetensors")
    assert len(source.checkpoint_sha256) == 64


def test_a_run_goes_on_without_the_weights_that_it_began_with(images: Path, tmp_path: Path) -> None:
    base = checkpoint_from_images(images, tmp_path / "base", config(epochs=1)).best
    options = TrainConfig(init=str(base), epochs=3, batch_size=8, device="cpu")
    two = make_images(tmp_path / "two", classes=2)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_from_images(two, tmp_path / "run", options, Listener(interrupt_in_epoch=2))
    base.unlink()
    result = checkpoint_from_images(two, tmp_path / "run", dataclasses.replace(options, resume=True))
    assert result.epochs == 3
    assert "head replaced: 3 -> 2 classes" in result.notes
    assert read_spec(result.best).source.checkpoint == "best.safetensors"


def test_another_image_size_resamples_the_positions(images: Path, tmp_path: Path) -> None:
    base = checkpoint_from_images(images, tmp_path / "base", config(epochs=1))
    larger = checkpoint_from_images(
        images,
        tmp_path / "larger",
        TrainConfig(init=str(base.best), img_size=32, epochs=1, batch_size=8, device="cpu", drop_path=0.1),
    )
    spec = read_spec(larger.best)
    assert (spec.preprocess.crop_height, spec.input.width) == (32, 32)
    with safe_open(larger.best, "pt") as file:
        assert file.get_slice("pos_embed").get_shape() == [1, 17, 32]


def test_arguments_that_do_not_fit_the_checkpoint_are_named(images: Path, tmp_path: Path) -> None:
    base = checkpoint_from_images(images, tmp_path / "base", config(epochs=1))
    with pytest.raises(OptionError, match=r"(?s)does not fit.*depth=3"):
        checkpoint_from_images(images, tmp_path / "run", TrainConfig(init=str(base.best), model_kwargs={"depth": 3}))


def test_a_loss_that_is_not_finite_stops_the_run(images: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError, match=r"(?s)not finite.*step \d+ of epoch 1, lr .*no epoch.*--lr"):
        checkpoint_from_images(images, tmp_path / "run", config(lr=1e30, clip_grad=0.0, warmup_epochs=0))
    assert not (tmp_path / "run/state.pt").exists()


def test_the_last_good_epoch_survives_a_divergence(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitrify.training import loop

    true_evaluate = loop.evaluate
    calls: list[int] = []

    def evaluate_once(*args: Any) -> Any:
        calls.append(1)
        scores = true_evaluate(*args)
        return scores if len(calls) == 1 else dataclasses.replace(scores, loss=float("nan"))

    monkeypatch.setattr(loop, "evaluate", evaluate_once)
    with pytest.raises(TrainingDivergedError, match="epoch 1 is kept"):
        checkpoint_from_images(images, tmp_path / "run", TINY)
    assert read_spec(tmp_path / "run/best.safetensors").labels
    assert (tmp_path / "run/report.md").exists()


def test_unreadable_images_stop_the_run_unless_they_are_skipped(images: Path, tmp_path: Path) -> None:
    (images / "bar1/zz.png").write_bytes(b"not an image at all")
    with pytest.raises(DatasetError, match=r"(?s)1 unreadable image .*bar1/zz.png: not an image.*--skip-bad"):
        checkpoint_from_images(images, tmp_path / "run", TINY)
    listener = Listener()
    result = checkpoint_from_images(images, tmp_path / "run", config(epochs=1, skip_bad=True), listener)
    assert "left out 1 unreadable image: bar1/zz.png" in listener.said
    assert result.train_count + result.val_count == 48
    assert "zz.png" in (tmp_path / "run/report.md").read_text()


def test_a_ready_split_is_used_as_it_is(tmp_path: Path) -> None:
    make_images(tmp_path / "data/train", per_class=8)
    make_images(tmp_path / "data/val", per_class=3, suffix=".WEBP")
    result = checkpoint_from_images(tmp_path / "data", tmp_path / "run", config(epochs=1))
    assert (result.train_count, result.val_count) == (24, 9)
    assert "the folder's own" in (tmp_path / "run/report.md").read_text()


def test_patience_ends_a_run_that_does_not_get_better(images: Path, tmp_path: Path) -> None:
    result = checkpoint_from_images(images, tmp_path / "run", config(epochs=30, lr=1e-9, min_lr=0.0, patience=2))
    assert result.epochs < 30
    assert result.epochs == result.best_epoch + 2


def test_the_random_generators_of_the_host_are_left_alone(images: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    checkpoint_from_images(images, tmp_path / "run", config(epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_fp16_needs_cuda(images: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="fp16 training needs CUDA"):
        checkpoint_from_images(images, tmp_path / "run", config(amp="fp16"))


def test_a_missing_package_is_named_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"(?s)tensorboard is not installed.*vitrify\[train\]"):
        checkpoint_from_images(tmp_path / "absent", tmp_path / "run", TINY)


def test_bf16_trains_on_a_cpu(images: Path, tmp_path: Path) -> None:
    result = checkpoint_from_images(images, tmp_path / "run", config(epochs=2, amp="bf16"))
    assert weights(result.best)["head.weight"].dtype == torch.float32


def test_scanned_digits_are_learnt_far_beyond_chance(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    for n, (scan, target) in enumerate(zip(digits.images, digits.target, strict=True)):
        if target < 4 and n < 800:
            folder = tmp_path / f"digits/{target}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((scan * 255 / 16).astype(np.uint8)).save(folder / f"{n}.png")
    result: TrainResult = checkpoint_from_images(
        tmp_path / "digits",
        tmp_path / "run",
        config(
            model_kwargs={"patch_size": 4, "depth": 2, "embed_dim": 48, "num_heads": 3},
            epochs=15,
            batch_size=16,
            crop_min=0.8,
        ),
    )
    assert result.last_top1 > 0.8


def test_model_arguments_are_read_as_typed() -> None:
    items = [
        "patch_size=8",
        "qkv_bias=False",
        "init_values=1e-5",
        "img_size=8,12",
        "norm_layer=layernorm",
        "x=None",
        "y=a,b",
    ]
    assert parse_model_kwargs(items) == {
        "patch_size": 8,
        "qkv_bias": False,
        "init_values": 1e-5,
        "img_size": (8, 12),
        "norm_layer": "layernorm",
        "x": None,
        "y": "a,b",
    }
    for wrong in (["depth"], ["=3"], ["a=1", "a=2"]):
        with pytest.raises(OptionError):
            parse_model_kwargs(wrong)
