"""8-bit weights as floats that QuantizeLinear makes the same 8 bits again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.graphs.rewrites.text import numbers, operators, parsed, run
from vitrify.graphs.rewrites.float_weights import with_float_weights

WEIGHTS = {
    "w": np.random.default_rng(0).integers(-127, 128, (4, 3)).astype(np.int8),
    "s": np.abs(numbers(3)),
    "z": np.zeros(3, np.int8),
}


def test_the_same_numbers_to_the_last_bit() -> None:
    text = "g (float[B, 4] x) => (float[B, 3] y) { d = DequantizeLinear <axis = 1> (w, s, z) y = MatMul (x, d) }"
    model = parsed(text, WEIGHTS, opset=21)
    x = numbers(2, 4, seed=1)
    large = with_float_weights(model)
    assert operators(large) == ["QuantizeLinear", "DequantizeLinear", "MatMul"]
    np.testing.assert_array_equal(run(large, x=x)["y"], run(model, x=x)["y"])
    assert {weight.name for weight in large.graph.initializer} == {"d_float", "s", "z"}


def test_a_scale_that_is_computed_is_left(reasons: Callable[[], str]) -> None:
    text = """g (float[B, 4] x) => (float[B, 3] y)
              { t = Identity (s) d = DequantizeLinear <axis = 1> (w, t, z) y = MatMul (x, d) }"""
    model = parsed(text, WEIGHTS, opset=21)
    assert with_float_weights(model) == model
    assert "the scale of DequantizeLinear_1 are not known" in reasons()
