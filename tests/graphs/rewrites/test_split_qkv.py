"""Queries, keys and values get a product each; what the graph gives stays the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.graphs.rewrites.text import numbers, operators, parsed, run
from vitrify.graphs.rewrites.split_qkv import SplitQkv

GRAPH = """
    attention (float[B, 5, 4] x) => (float[B, 2, 5, 2] q, float[B, 2, 5, 2] k, float[B, 2, 5, 2] v)
    <int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}}, int64[1] a = {{0}}, int64[1] b = {{1}},
     int64[1] c = {{2}}, int64[1] d = {{3}}, int64[5] shape = {{0, 5, 3, 2, 2}}>
    {{ m = MatMul (x, w) {bias} r = Reshape ({last}, {shape}) t = Transpose <perm = {perm}> (r) {slices} }}"""
GATHERS = "q = Gather <axis = 0> (t, zero) k = Gather <axis = 0> (t, one) v = Gather <axis = 0> (t, two)"
SLICES = """qs = Slice (t, a, b, a) q = Squeeze (qs, a) ks = Slice (t, b, c, a) k = Squeeze (ks, a)
            vs = Slice (t, c, d, a) v = Squeeze (vs, a)"""


def text(
    bias: str = "s = Add (m, bias)", shape: str = "shape", perm: str = "[2, 0, 3, 1, 4]", slices: str = GATHERS
) -> str:
    last = "s" if bias else "m"
    return GRAPH.format(bias=bias, last=last, shape=shape, perm=perm, slices=slices)


@pytest.mark.parametrize("slices", [GATHERS, SLICES], ids=["Gather", "Slice and Squeeze"])
@pytest.mark.parametrize("bias", ["s = Add (m, bias)", ""], ids=["biased", "no bias"])
def test_the_answer_stays_with_three_products(slices: str, bias: str) -> None:
    weights = {"w": numbers(4, 12), **({"bias": numbers(12, seed=1)} if bias else {})}
    model = parsed(text(bias, slices=slices), weights, modules={"m": "blocks.0.attn.qkv"})
    x = numbers(3, 5, 4, seed=2)
    before = run(model, x=x)
    (place,) = SplitQkv(model).apply()
    assert place.module == "blocks.0.attn.qkv"
    for name, value in run(model, x=x).items():
        np.testing.assert_allclose(value, before[name], rtol=1e-6)
    assert operators(model).count("MatMul") == 3
    assert not {"Gather", "Slice"}.intersection(operators(model))
    assert {tuple(weight.dims) for weight in model.graph.initializer} == {(4, 4), (4,)} if bias else {(4, 4)}
    assert SplitQkv(model).apply() == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bias": "s = Add (m, m)"}, "is no constant bias"),
        (
            {"shape": "computed", "bias": "computed = Identity (shape) s = Add (m, bias)"},
            "the shape that MatMul_0 is given",
        ),
        ({"perm": "[2, 0, 1, 3, 4]"}, "do not become"),
        ({"slices": GATHERS.replace("two", "one")}, "only some of queries, keys and values"),
        (
            {"slices": GATHERS.replace("v = Gather <axis = 0> (t, two)", "v = Identity (q) e = Erf (t)")},
            "takes something else",
        ),
    ],
)
def test_another_form_stays_as_it_is(reasons: Callable[[], str], change: dict[str, str], reason: str) -> None:
    given = {"w": numbers(4, 12), "bias": numbers(12, seed=1)}
    body = text(**change)
    if "perm" in change:
        body = body.replace("[B, 2, 5, 2]", "[B, K, L, M]")
    model = parsed(body, given)
    before = model.SerializeToString()
    assert SplitQkv(model).apply() == ()
    assert reason in reasons()
    assert model.SerializeToString() == before
