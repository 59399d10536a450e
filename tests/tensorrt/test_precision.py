from __future__ import annotations

import dataclasses
import json

import pytest

from vitrify.artifacts import BuildConfig, Profile
from vitrify.errors import OptionError
from vitrify.spec import encode
from vitrify.spec.codec import decode
from vitrify.tensorrt.precision import resolve_precision
from vitrify.tensorrt.releases import release_of


def test_profiles_are_read_and_shown() -> None:
    assert Profile.parse("1:8:64") == Profile(min=1, opt=8, max=64)
    assert Profile.parse("16") == Profile(min=16, opt=16, max=16)
    assert str(Profile.parse("1:8:64")) == "1:8:64"
    assert [batch in Profile.parse("2:3:4") for batch in (1, 2, 4, 5)] == [False, True, True, False]


@pytest.mark.parametrize("text", ["", "1:2", "a", "1:8:64:128", "-1:2:3", "1.5", "8:1:64", "0:1:2", "1:64:8"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        Profile.parse(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"profiles": ()},
        {"workspace_mib": 0},
        {"optimization_level": 6},
        {"compute_capabilities": ("sm89",)},
        {"compute_capabilities": ("8",)},
    ],
)
def test_options_out_of_range(changes: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        dataclasses.replace(BuildConfig(), **changes)  # type: ignore[arg-type]


def test_a_config_survives_json() -> None:
    config = BuildConfig(profiles=(Profile.parse("1"), Profile.parse("2:8:64")), compute_capabilities=("8.9", "12.0"))
    assert decode(BuildConfig, json.loads(json.dumps(encode(config)))) == config


def test_precision_comes_from_the_graph() -> None:
    for version in ("11.0", "8.5"):
        for asked in ("auto", "fp16"):
            assert resolve_precision(asked, "fp16", release=release_of("full", version), name="TensorRT") == "fp16"
    with pytest.raises(OptionError, match=r"this graph is fp32[\s\S]*vitrify quantize MODEL\.onnx --to bf16"):
        resolve_precision("bf16", "fp32", release=release_of("full", "11.0"), name="TensorRT 11")


def test_flags_make_fp16_of_fp32_and_nothing_else() -> None:
    assert resolve_precision("fp16", "fp32", release=release_of("full", "8.5"), name="TensorRT 8.5") == "fp16"
    for asked, graph, hint in (
        ("bf16", "fp32", "it computes in fp32, fp16, int8"),  # and not: quantize to what it does not have
        ("fp32", "fp16", "vitrify export"),
        ("int8", "fp32", "vitrify quantize"),
    ):
        with pytest.raises(OptionError, match=rf"graph in {graph} into {asked}[\s\S]*hint: {hint}"):
            resolve_precision(asked, graph, release=release_of("full", "8.5"), name="TensorRT 8.5")  # type: ignore[arg-type]
