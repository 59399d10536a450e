from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrify.datasets import ImageFolder, scan_folder
from vitrify.errors import OptionError
from vitrify.pixels import preprocess
from vitrify.spec import Preprocess
from vitrify.training.config import TrainConfig
from vitrify.training.data import EpochBatches, ImageCache, make_loaders
from vitrify.training.recipe import make_normaliser

SPEC = Preprocess(
    resize_rule="shortest",
    resize_height=18,
    resize_width=18,
    crop_height=16,
    crop_width=16,
    interpolation="bicubic",
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.4),
)


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    rng = np.random.default_rng(0)
    for n in range(10):
        path = tmp_path / f"images/{'ab'[n % 2]}/{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return scan_folder(tmp_path / "images")


def epoch_of(
    folder: ImageFolder, epoch: int, workers: int, cache_mb: int = 1
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    config = TrainConfig(batch_size=4, workers=workers, auto_augment="rand-m9-mstd0.5-inc1")
    loaders = make_loaders(folder, folder, config, SPEC, cache=ImageCache(cache_mb << 20))
    loaders.batches.epoch = epoch
    return list(loaders.train)


def test_batches_depend_on_the_epoch_and_not_on_the_workers(folder: ImageFolder) -> None:
    alone, again, shared, later = (epoch_of(folder, e, w) for e, w in ((0, 0), (0, 0), (0, 2), (1, 0)))
    assert [len(targets) for _, targets in alone] == [4, 4, 2]
    for other in (again, shared):
        for (images, targets), (other_images, other_targets) in zip(alone, other, strict=True):
            assert torch.equal(images, other_images)
            assert torch.equal(targets, other_targets)
    assert not torch.equal(alone[0][0], later[0][0])
    assert alone[0][0].dtype == torch.uint8


def test_validation_sees_what_inference_will_see(folder: ImageFolder) -> None:
    loaders = make_loaders(folder, folder, TrainConfig(batch_size=4), SPEC, cache=ImageCache(1 << 20))
    images = torch.cat([images for images, _ in loaders.val]).numpy()
    assert np.array_equal(images, preprocess(folder.paths, SPEC))


def test_training_is_normalised_like_validation(folder: ImageFolder) -> None:
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    normalised = make_normaliser(SPEC.mean, SPEC.std, 0.0, torch.device("cpu"))(pixels)
    expected = preprocess([p.permute(1, 2, 0).numpy() for p in pixels], _without_resizing())
    assert torch.allclose(normalised, torch.from_numpy(expected), atol=1e-6)


def _without_resizing() -> Preprocess:
    return Preprocess(
        resize_rule="squash",
        resize_height=16,
        resize_width=16,
        crop_height=16,
        crop_width=16,
        interpolation="bicubic",
        mean=SPEC.mean,
        std=SPEC.std,
    )


def test_an_epoch_shows_every_image_once_and_evens_the_batches_when_asked() -> None:
    odd = EpochBatches(7, 4, seed=3, even=False)
    assert sorted(position for batch in odd for _, position in batch) == list(range(7))
    even = EpochBatches(7, 4, seed=3, even=True)
    assert [len(batch) for batch in even] == [4, 2]
    assert (len(odd), len(even)) == (2, 2)


def test_the_cache_stops_at_its_limit(tmp_path: Path) -> None:
    cache = ImageCache(limit_bytes=2 * 48)
    pixels = np.zeros((4, 4, 3), np.uint8)
    for name in ("a", "b", "c"):
        cache.keep(tmp_path / name, pixels)
    assert not cache.complete
    assert cache.read(tmp_path / "b") is pixels


def test_an_unknown_policy_is_named(folder: ImageFolder) -> None:
    with pytest.raises(OptionError, match="auto_augment='nonsense'"):
        make_loaders(folder, folder, TrainConfig(auto_augment="nonsense"), SPEC, cache=ImageCache(0))
