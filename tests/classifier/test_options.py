"""The options as a value: checked where it is made, and the same in C++ and in the commands."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import vitrify
from tests.pixels.test_hostile import animated
from vitrify import Classifier, ClassifierOptions
from vitrify.classifier import Failure
from vitrify.errors import OptionError
from vitrify.pixels import DecodeLimits

ROOT = Path(__file__).parents[2]
FIELDS = {field.name: field.default for field in dataclasses.fields(ClassifierOptions)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is not positive"),
        ({"top_k": 0}, "top_k is not positive"),
        ({"threads": -1}, "threads is not positive"),
        ({"precision": "int8"}, "precision has an unknown value"),
        ({"pixels": "tpu"}, "pixels has an unknown value"),
        ({"self_test": "sometimes"}, "self_test has an unknown value"),
        ({"max_memory": 0}, "max_memory is out of range"),
    ],
)
def test_what_cannot_be_is_refused_before_a_file_is_opened(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ClassifierOptions(**options)
    with pytest.raises(OptionError, match=message):
        Classifier("no such file.onnx", **options)


def test_an_option_that_there_is_not_is_a_type_error(artifact: Path) -> None:
    with pytest.raises(TypeError, match=r"Classifier\(\) got an unexpected keyword argument 'topk'"):
        Classifier(artifact, topk=3)


def test_a_value_and_keywords_are_the_same(artifact: Path) -> None:
    given = ClassifierOptions(batch_size=3, top_k=2, threads=1)
    with Classifier(artifact, given, top_k=1) as one, Classifier(artifact, batch_size=3, top_k=1, threads=1) as other:
        assert one.options == other.options == dataclasses.replace(given, top_k=1)


def test_limits_are_those_of_the_pixels() -> None:
    limits = dataclasses.asdict(DecodeLimits())
    assert {name: FIELDS[name] for name in limits} == limits
    assert ClassifierOptions(max_pixels=7).limits == DecodeLimits(max_pixels=7)


def test_limits_hold_for_each_image(artifact: Path, photos: Path) -> None:
    path = next(photos.rglob("*.jpg"))
    canvas = animated(800, 900)
    with Classifier(artifact, max_memory=14 * 800 * 900) as classify:
        assert classify(canvas)
    with Classifier(artifact, max_memory=14 * 800 * 900 - 1) as classify:
        one, other = classify.stream([canvas, path])
    assert isinstance(one, Failure)
    assert "max_memory" in str(one.error)
    assert not isinstance(other, Failure)
    with Classifier(artifact, max_bytes=path.stat().st_size - 1) as classify:
        (refused,) = classify.stream([path])
    assert isinstance(refused, Failure)
    assert "too large" in refused.error.what


def test_cpp_has_the_same_names_and_defaults() -> None:
    header = (ROOT / "cpp" / "include" / "vitrify" / "classifier.hpp").read_text()
    struct = header.partition("struct ClassifierOptions {")[2].partition("\n};")[0]
    struct = re.sub(r"//.*", "", struct)
    members = dict(re.findall(r"^  \S.*? (\w+)(?: = ([^;]+))?;", struct, flags=re.MULTILINE))
    own = {"decode", "cache_folder", "log", "observer", "streams", "jpeg_decoder"}
    words = {"PixelsOn::automatic": "auto", "SelfTest::automatic": "auto", "0": None, '"auto"': "auto"}
    limits = {field.name for field in dataclasses.fields(DecodeLimits)}  # compared by tests/cpp/test_limits.py
    assert members.keys() - own == FIELDS.keys() - limits - {"like"}
    for name in members.keys() - own - {"precision"}:  # unset there, which is auto
        assert words.get(members[name], members[name]) == (
            str(FIELDS[name]) if isinstance(FIELDS[name], int) else FIELDS[name]
        )


def test_functions_show_the_fields() -> None:
    for function, without in ((Classifier, set()), (vitrify.evaluate, {"like", "top_k"})):
        shown = {name: p.default for name, p in inspect.signature(function).parameters.items() if name in FIELDS}
        assert shown == {name: value for name, value in FIELDS.items() if name not in without}
        for name in shown:
            assert f"    {name}: " in inspect.cleandoc(function.__doc__ or "")
