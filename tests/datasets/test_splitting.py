from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrify.datasets import ImageFolder, stratified_split
from vitrify.errors import DatasetError, OptionError


def folder_of(counts: list[int]) -> ImageFolder:
    labels = tuple(f"class{i:02}" for i in range(len(counts)))
    samples = tuple((Path(label, f"{n:04}.png"), i) for i, label in enumerate(labels) for n in range(counts[i]))
    return ImageFolder(root=Path("data"), labels=labels, samples=samples)


@given(
    counts=st.lists(st.integers(2, 60), min_size=2, max_size=8),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_class_is_on_both_sides_in_the_same_share(counts: list[int], fraction: float, seed: int) -> None:
    folder = folder_of(counts)
    train, val = stratified_split(folder, fraction, seed)
    assert sorted(train.samples + val.samples) == sorted(folder.samples)
    assert not set(train.samples) & set(val.samples)
    assert train.labels == val.labels == folder.labels
    for count, in_train, in_val in zip(counts, train.counts, val.counts, strict=True):
        assert in_train >= 1
        assert in_val >= 1
        assert abs(in_val - count * fraction) <= 1
    assert stratified_split(folder, fraction, seed) == (train, val)


def test_another_seed_gives_another_split() -> None:
    folder = folder_of([40, 40])
    assert stratified_split(folder, 0.25, 0)[1] != stratified_split(folder, 0.25, 1)[1]


def test_a_class_is_split_alike_whatever_the_others_hold() -> None:
    small, large = folder_of([30, 10]), folder_of([30, 50])
    of_first = [[s for s in stratified_split(f, 0.2, 7)[1].samples if s[1] == 0] for f in (small, large)]
    assert of_first[0] == of_first[1]


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(DatasetError, match=r"(?s)too few images to split.*class01"):
        stratified_split(folder_of([5, 1]), 0.2, 0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_must_leave_both_sides_something(fraction: float) -> None:
    with pytest.raises(OptionError, match="val_fraction"):
        stratified_split(folder_of([5, 5]), fraction, 0)
