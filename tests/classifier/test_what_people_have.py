"""What a classifier is given: everything that holds an image, and what is said of everything else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitrify import Classifier, Failure, Prediction
from vitrify.errors import ImageError, OptionError, RuntimeFailureError
from vitrify.pixels import read_rgb


@pytest.fixture(scope="module")
def classify(artifact: Path) -> Iterator[Classifier]:
    with Classifier(artifact, runtime="onnxruntime", precision="fp32") as classifier:
        yield classifier


@pytest.fixture(scope="module")
def paths(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.*g"))[:3]


def same(first: list[Prediction], second: list[Prediction]) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-5)


def test_open_files_and_bytes_of_every_kind(classify: Classifier, paths: list[Path]) -> None:
    want, data = classify(paths[0]), paths[0].read_bytes()
    for given in (io.BytesIO(data), bytearray(data), memoryview(data), data):
        same(classify(given), want)
    with paths[0].open("rb") as file:
        answers = classify(file)
    same(answers, want)
    assert answers[0].source == str(paths[0])
    same(classify([io.BytesIO(data), bytearray(data)]), want * 2)


def test_tensors_and_a_batch(classify: Classifier, paths: list[Path]) -> None:
    rgb = read_rgb(paths[0])
    want = classify(rgb)
    same(classify(torch.from_numpy(rgb.copy())), want)
    same(classify(np.stack([rgb, rgb])), want * 2)
    same(classify(torch.from_numpy(np.stack([rgb, rgb]))), want * 2)


class Column:
    """As pandas' Series: an array of paths that is no list, with one dimension."""

    def __init__(self, paths: list[Any]) -> None:
        self.paths, self.ndim, self.dtype = paths, 1, np.dtype(object)

    def __array__(self) -> np.ndarray:
        return np.array(self.paths, dtype=object)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


class Frame:
    """As pandas' DataFrame: iterated, it gives the names of its columns."""

    columns, shape, ndim = ("path",), (3, 1), 2

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


def test_a_column_of_paths(classify: Classifier, paths: list[Path]) -> None:
    names = [str(path) for path in paths]
    for given in (Column(names), np.array(names), (name for name in names), tuple(paths)):
        assert [answer.source for answer in classify(given)] == names
    holes = list(classify.stream(Column([names[0], float("nan"), None])))
    assert [type(answer) for answer in holes] == [Prediction, Failure, Failure]


@pytest.mark.parametrize("images", [Frame(), {"path": ["a.jpg"]}])
def test_a_table_is_no_list_of_images(classify: Classifier, images: Any) -> None:
    with pytest.raises(OptionError, match="column"):
        classify(images)


def test_what_is_no_image_at_all(classify: Classifier) -> None:
    with pytest.raises(OptionError, match="no images"):
        classify(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        (torch.rand(3, 32, 32), r"permute.*floats"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), "permute"),
        (np.random.default_rng(0).random((32, 32, 3)), "255"),
        (np.zeros((32, 32), np.uint8), "grey"),
        (np.zeros((32, 32, 4), np.uint8), "alpha"),
        (np.zeros(100, np.uint8), "tobytes"),
        (torch.rand(32, 32, 3, requires_grad=True), "detach"),
    ],
)
def test_other_arrays_are_told_what_to_pass(classify: Classifier, image: Any, hint: str) -> None:
    with pytest.raises(ImageError, match=r"uint8") as refused:
        classify(image)
    import re

    assert re.search(hint, str(refused.value))


def test_files_that_cannot_be_read(classify: Classifier, paths: list[Path]) -> None:
    used = io.BytesIO(paths[0].read_bytes())
    used.read()
    with pytest.raises(ImageError, match="rewind"):
        classify(used)
    with pytest.raises(ImageError, match="open as text"):
        classify(io.StringIO("text"))
    closed = paths[0].open("rb")
    closed.close()
    with pytest.raises(ImageError, match="cannot read"):
        classify(closed)


def test_a_stream_takes_one_image_too(classify: Classifier, paths: list[Path]) -> None:
    assert [type(answer) for answer in classify.stream(str(paths[0]))] == [Prediction]


def test_answers_are_rows_of_a_table(classify: Classifier, paths: list[Path]) -> None:
    row = classify(paths[0])[0].to_dict()
    assert list(row)[:5] == ["source", "label", "probability", "label_2", "probability_2"]
    assert all(isinstance(value, str | float) for value in row.values())
    failure = next(iter(classify.stream(["gone.jpg"])))
    assert isinstance(failure, Failure)
    assert failure.to_dict() == {"source": "gone.jpg", "error": "cannot read gone.jpg (No such file or directory)"}


def test_closed_is_a_typed_error(artifact: Path, paths: list[Path]) -> None:
    classifier = Classifier(artifact, runtime="onnxruntime")
    classifier.close()
    with pytest.raises(RuntimeFailureError):
        classifier(paths)
