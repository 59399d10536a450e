from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
import timm
from hypothesis import given
from hypothesis import strategies as st
from timm.data.config import resolve_model_data_config

from tests.conftest import tiny_spec
from vitrify.errors import OptionError, SpecError, SpecVersionError
from vitrify.spec import (
    MIN_IMAGES,
    SPEC_VERSION,
    Check,
    Gate,
    GoldenVector,
    InputKind,
    KwargValue,
    ModelSpec,
    Precision,
    Preprocess,
    Verification,
)


def a_check(runtime: str, precision: Precision, inputs: InputKind, count: int, passed: bool) -> Check:
    return Check(
        runtime=runtime,
        precision=precision,
        inputs=inputs,
        batch=8,
        count=count,
        max_absolute_error=1e-6,
        max_relative_error=1e-6,
        mean_absolute_error=1e-7,
        gate_use=0.01,
        top1_agreement=1.0,
        gate=Gate(absolute=1e-4, relative=1e-3, top1_agreement=1.0),
        passed=passed,
    )


def a_verification(*checks: Check) -> Verification:
    return Verification(
        date="2026-01-01T00:00:00+00:00", reference="torch fp32", machine="a processor", versions={}, checks=checks
    )


def full_spec() -> ModelSpec:
    return tiny_spec().replace(
        golden=(GoldenVector(seed=1, cell=4, logits=(0.5, -1.25, 3.0, 0.0, 1e-9, -7.5)),),
        verification=a_verification(a_check("openvino", "fp32", "golden", 3, True)),
    )


def test_json_comes_back_equal() -> None:
    spec = full_spec()
    text = spec.to_json()
    assert ModelSpec.from_json(text) == spec
    assert ModelSpec.from_json(text).to_json() == text


@given(st.lists(st.text(), min_size=1, max_size=20, unique=True))
def test_labels_of_any_script_survive(labels: list[str]) -> None:
    spec = tiny_spec(tuple(labels))
    # As UTF-8, the way files hold it. A lone surrogate cannot be in a file name's or a label file's UTF-8 either.
    if any("\ud800" <= character <= "\udfff" for label in labels for character in label):
        return
    assert ModelSpec.from_json(spec.to_json().encode()) == spec


def test_a_newer_version_is_refused() -> None:
    data = json.loads(full_spec().to_json()) | {"version": SPEC_VERSION + 1, "something": "new"}
    with pytest.raises(SpecVersionError, match="newer than this vitrify") as caught:
        ModelSpec.from_json(json.dumps(data))
    assert caught.value.hint == "pip install --upgrade vitrify"


def broken(path: str, value: Any) -> str:
    data = json.loads(full_spec().to_json())
    *parents, last = (int(name) if name.isdigit() else name for name in path.split("."))
    holder = data
    for name in parents:
        holder = holder[name]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("labels", "daisy", "spec.labels"),
        ("labels", [], "without labels"),
        ("labels.0", 7, r"spec.labels\[0\]"),
        ("input.height", 32.5, "spec.input.height"),
        ("input.height", True, "spec.input.height"),
        ("input.height", ..., "no height"),
        ("input.width", 64, "disagree"),
        ("input.colour", "BGR", "unknown colour"),
        ("input.channels", 4, "spec.input.channels"),
        ("preprocess.std", [0.5, 0.5], "spec.preprocess.std"),
        ("preprocess.std", [0.5, 0.0, 0.5], "normalisation"),
        ("preprocess.crop_height", 0, "cannot be"),
        ("preprocess.resize_width", 1 << 14, "cannot be"),
        ("preprocess.interpolation", "cubic", "spec.preprocess.interpolation"),
        ("output.kind", 1, "spec.output.kind"),
        ("golden.0.logits", [1.0], "golden vector"),
        ("verification.checks.0.count", "3", r"spec.verification.checks\[0\].count"),
        ("source.model_kwargs", {"a": {}}, "spec.source.model_kwargs.a"),
        ("version", "1", "no version"),
        ("version", True, "no version"),
        ("version", 0, "no version"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        ModelSpec.from_json(broken(path, value))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"spec"', "{}"])
def test_what_is_no_spec(text: str) -> None:
    with pytest.raises(SpecError):
        ModelSpec.from_json(text)


def test_numbers_keep_their_kind() -> None:
    kwargs: dict[str, KwargValue] = {
        "depth": 1,
        "mlp_ratio": 4.0,
        "class_token": False,
        "pool": "avg",
        "size": (2, 3),
        "none": None,
    }
    spec = tiny_spec()
    spec = spec.replace(source=dataclasses.replace(spec.source, model_kwargs=kwargs))
    again = ModelSpec.from_json(spec.to_json()).source.model_kwargs
    assert again == kwargs
    assert {name: type(value) for name, value in again.items()} == {name: type(value) for name, value in kwargs.items()}


def test_reduced_precision_needs_enough_real_images() -> None:
    enough = a_check("openvino", "bf16", "images", MIN_IMAGES, True)
    few = a_check("openvino", "bf16", "images", MIN_IMAGES - 1, True)
    noise = a_check("openvino", "bf16", "random", 1000, True)
    failed = a_check("openvino", "bf16", "images", 1000, False)
    assert a_verification(enough).allows("openvino", "bf16")
    assert not a_verification(enough).allows("onnxruntime", "bf16")
    assert not a_verification(enough).allows("openvino", "fp16")
    assert not a_verification(few).allows("openvino", "bf16")
    assert not a_verification(noise).allows("openvino", "bf16")
    assert not a_verification(enough, failed).allows("openvino", "bf16")
    assert not a_verification().allows("openvino", "bf16")


@pytest.mark.parametrize("name", ["vit_base_patch16_224", "vit_small_patch14_dinov2", "deit_tiny_patch16_224"])
def test_timm_config_is_read(name: str) -> None:
    config = resolve_model_data_config(timm.create_model(name))
    spec = Preprocess.from_timm(config)
    assert (3, spec.crop_height, spec.crop_width) == config["input_size"]
    assert spec.resize_height == int(spec.crop_height / config["crop_pct"])
    assert spec.mean == tuple(config["mean"])


def test_timm_config_that_cannot_be_carried() -> None:
    config = {"input_size": (3, 224, 224), "interpolation": "random", "mean": (0, 0, 0), "std": (1, 1, 1)}
    with pytest.raises(OptionError, match="cannot carry"):
        Preprocess.from_timm(config)


@pytest.mark.parametrize(
    "text",
    [
        '{"version": 1, "labels": ' + "[" * 100_000,
        '{"version": 1, "labels": ' + "[" * 33 + "]" * 33 + "}",
        '{"version":' * 50,
    ],
)
def test_a_spec_that_is_nested_deeply_is_refused(text: str) -> None:
    for content in (text, text.encode()):
        with pytest.raises(SpecError, match="nested too deeply"):
            ModelSpec.from_json(content)


def test_a_spec_has_a_limit_in_bytes() -> None:
    with pytest.raises(SpecError, match="too large"):
        ModelSpec.from_json('{"version": 1, "labels": [' + '"",' * (3 << 20) + '""]}')


def test_brackets_in_a_label_are_no_levels() -> None:
    spec = tiny_spec()
    named = spec.replace(labels=tuple(f'{"[" * 40}\\"{{{index}' for index in range(len(spec.labels))))
    assert ModelSpec.from_json(named.to_json()) == named


def test_a_number_beyond_floats_is_an_error_of_the_spec() -> None:
    text = tiny_spec().to_json()
    huge = re.sub(r'"std":\[[^,]+', '"std":[1' + "0" * 400, text)
    assert huge != text
    with pytest.raises(SpecError):
        ModelSpec.from_json(huge)
