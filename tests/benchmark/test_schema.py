"""The JSON Schema of a report, by an implementation of JSON Schema that is not ours."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.benchmark.test_comparison import report, row
from vitrify.benchmark import BenchReport, report_schema
from vitrify.benchmark.report import Roofline, Stages
from vitrify.errors import SpecError
from vitrify.spec import encode
from vitrify.spec.codec import decode

VALIDATOR = Draft202012Validator(report_schema())


def written() -> dict[str, Any]:
    """A report with something in every part that `bench` on a CPU fills, and in those that it leaves empty."""
    failed = dataclasses.replace(row("b.onnx", 5, 2), timing=None, arithmetic="", problem="it crashed")
    roofline = Roofline(flops=1, bytes=1, of_peak_flops=0.5, of_peak_bandwidth=0.5, of_roofline=0.5)
    stages = Stages(
        name="a", images=1, pixels="gpu", read_ms=1, preprocess_ms=1, decode_alone_ms=1, inference_ms=1, post_ms=1,
        total_ms=5,
    )  # fmt: skip
    made = report(dataclasses.replace(row("a.onnx", 10, 1), around="bf16", roofline=roofline), failed)
    encoded: dict[str, Any] = encode(dataclasses.replace(made, stages=(stages,), notes=("a note",)))
    return encoded


def test_it_is_a_schema_and_a_report_fits_it() -> None:
    Draft202012Validator.check_schema(report_schema())
    VALIDATOR.validate(written())


def edited(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    document = copy.deepcopy(written())
    change(document)
    return document


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(format=99),
        lambda r: r.pop("peaks"),
        lambda r: r.update(extra=1),
        lambda r: r["rows"][0].update(batch="1"),
        lambda r: r["rows"][0].update(arithmetic="int4"),
        lambda r: r["rows"][0]["timing"].update(quartiles_ms=[1.0]),
        lambda r: r["rows"][0]["timing"].update(quartiles_ms=[1.0, 2.0, 3.0]),
        lambda r: r["rows"][1].update(timing={}),
        lambda r: r["machine"].update(versions={"openvino": 1}),
        lambda r: r["stages"][0].update(pixels="tpu"),
        lambda r: r.update(notes=[1]),
    ],
)
def test_what_read_report_refuses_does_not_fit(change: Callable[[dict[str, Any]], Any]) -> None:
    document = edited(change)
    with pytest.raises(ValidationError):
        VALIDATOR.validate(document)
    if document["format"] == 1:
        with pytest.raises(SpecError):
            decode(BenchReport, document, root="bench report")


def test_every_field_says_what_it_is() -> None:
    for name, definition in report_schema()["$defs"].items():
        silent = [field for field, kind in definition["properties"].items() if not kind.get("description")]
        assert not silent, (name, silent)
