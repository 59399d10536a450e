"""Types of 16 bits where they hold, and the reason where they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tests.graphs.rewrites.text import numbers, operators, parsed, run
from vitrify.graphs import element_types
from vitrify.graphs.rewrites.casts import BF16, FP16, Casts

TEXT = """
    block (float[B, 4] x) => (float[B, 4] y)
    { m = MatMul (x, w) a = Add (m, b) s = Softmax <axis = -1> (a) e = Mul (s, a) y = Add (x, e) }"""
ATTENTION = "blocks.0.attn"
MODULES = {"m": f"{ATTENTION}.qkv", "a": f"{ATTENTION}.qkv", "s": ATTENTION, "e": ATTENTION, "y": "blocks.0"}


def graph() -> Any:
    return parsed(TEXT, {"w": numbers(4, 4), "b": numbers(4, seed=1)}, modules=MODULES)


@pytest.mark.parametrize("narrow", [False, True])
def test_the_answer_stays_within_the_type(reasons: Callable[[], str], *, narrow: bool) -> None:
    model, x = graph(), numbers(3, 4, seed=2)
    before = run(model, x=x)["y"]
    casts = Casts(model, FP16, magnitudes={}, narrow=narrow)
    assert [node.op_type for node in casts.apply()] == ["MatMul", "Add", "Mul", "Add"]
    after = run(model, x=x.astype(np.float16) if narrow else x)["y"]
    assert after.dtype == (np.float16 if narrow else np.float32)
    np.testing.assert_allclose(after, before, atol=0.01, rtol=0.01)
    assert np.abs(after - before).max() > 0
    types = element_types(model)
    made = {node.op_type: types[node.output[0]] for node in model.graph.node if node.op_type != "Cast"}
    assert made["MatMul"] == TensorProto.FLOAT16
    assert made["Softmax"] == TensorProto.FLOAT
    assert "Casts: blocks.0.attn/Softmax_2: too few bits for Softmax" in reasons()


@pytest.mark.parametrize(
    ("options", "stays", "reason"),
    [
        ({"magnitudes": {"m": 1e5}}, {"MatMul", "Add"}, "m is too large for fp16"),
        ({"residual_fp32": True}, {"Add"}, "a sum of the residual stream"),
        ({"attention_fp32": True}, {"Mul"}, "blocks.0.attn/Mul_3: attention"),
        ({"keep_parts": ["blocks.0"]}, {"MatMul", "Add", "Mul"}, "blocks.0 is kept"),
    ],
)
def test_what_stays_in_fp32_is_told(
    reasons: Callable[[], str], options: dict[str, Any], stays: set[str], reason: str
) -> None:
    model, x = graph(), numbers(3, 4, seed=2)
    before = run(model, x=x)["y"]
    done = {node.name for node in Casts(model, FP16, **{"magnitudes": {}} | options).apply()}
    assert {node.op_type for node in graph().graph.node if node.name not in done} == stays | {"Softmax"}
    np.testing.assert_allclose(run(model, x=x)["y"], before, atol=0.01, rtol=0.01)
    assert reason in reasons()


def test_operators_without_a_rule_or_without_the_type_stay(reasons: Callable[[], str]) -> None:
    text = "g (float[B, 3, 4, 4] x) => (float[B, 2, 4, 4] y) { c = Conv (x, w) y = Softsign (c) }"
    model = parsed(text, {"w": numbers(2, 3, 1, 1)})
    casts = Casts(model, BF16, magnitudes={})
    assert casts.apply() == ()
    assert casts.unknown == {"Softsign"}
    assert "Conv has no bf16 in opset 18" in reasons()
    assert "no rule for Softsign" in reasons()
    assert operators(model) == ["Conv", "Softsign"]


def test_a_weight_that_overflows_keeps_its_node(reasons: Callable[[], str]) -> None:
    model = parsed("g (float[B, 2] x) => (float[B, 2] y) { y = Mul (x, w) }", {"w": np.array([1, 1e5], np.float32)})
    assert Casts(model, FP16, magnitudes={}).apply() == ()
    assert "w is too large for fp16" in reasons()
