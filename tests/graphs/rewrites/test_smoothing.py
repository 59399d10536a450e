"""Channels that are divided in one place and multiplied in another cancel to the last bit, for powers of two do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from tests.graphs.rewrites.text import numbers, operators, parsed, run
from vitrify.graphs import linear_layers
from vitrify.graphs.rewrites.smoothing import Smoothing

VECTORS = {"gain": numbers(4, seed=1), "shift": numbers(4, seed=2)}
WEIGHTS = VECTORS | {"w": numbers(4, 3, seed=3), "v": numbers(4, 3, seed=4)}
NORM = "n = LayerNormalization <axis = -1> (x, gain, shift)"
IN_STEPS = "c = Mul (x, gain) n = Add (c, shift)"
ERF = "n = Erf (x)"
SCALES = np.array([8, 1, 0.25, 2], np.float32)


@pytest.mark.parametrize(("maker", "place"), [(NORM, "norm"), (IN_STEPS, "norm"), (ERF, "multiplication")])
def test_the_answer_stays_and_the_channels_shrink(maker: str, place: str) -> None:
    model = parsed(
        f"g (float[B, 4] x) => (float[B, 3] y, float[B, 3] z) {{ {maker} y = MatMul (n, w) z = MatMul (n, v) }}",
        WEIGHTS,
        modules={"y": "blocks.0.attn.q", "z": "blocks.0.attn.k"},
    )
    x = numbers(5, 4, seed=9)
    before = run(model, x=x)
    smoothing = Smoothing(model, linear_layers(model.graph))
    (shared,) = smoothing.places()
    assert (shared.tensor, shared.place, len(shared.layers)) == ("n", place, 2)
    smoothing.rewrite([dataclasses.replace(shared, scales=SCALES)])
    for name, value in run(model, x=x).items():
        np.testing.assert_allclose(value, before[name], rtol=1e-6, atol=1e-6)
    assert operators(model).count("Mul") == (place == "multiplication") + (maker == IN_STEPS)
    weights = {weight.name: np.frombuffer(weight.raw_data, np.float32) for weight in model.graph.initializer}
    np.testing.assert_array_equal(weights["w"].reshape(4, 3), WEIGHTS["w"] * SCALES[:, None])
    if place == "norm":
        np.testing.assert_array_equal(weights["shift"], WEIGHTS["shift"] / SCALES)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"{NORM} y = MatMul (n, w) z = Erf (n)", "somebody else reads n as it is"),
        (f"{NORM} e = Erf (n) y = MatMul (e, w) z = MatMul (y, w)", "another layer has the matrix w too"),
        ("y = MatMul (x, w) z = Erf (y)", "x is not made in this graph"),
    ],
)
def test_what_others_read_stays_as_it_is(reasons: Callable[[], str], body: str, reason: str) -> None:
    weights = VECTORS | {"w": numbers(4, 4, seed=3)}
    model = parsed(
        f"g (float[B, 4] x) => (float[B, K] y, float[B, L] z) {{ {body} }}",
        weights,
        modules={"y": "blocks.0.mlp.fc1", "z": "blocks.1.mlp.fc1"},
    )
    before = model.SerializeToString()
    smoothing = Smoothing(model, linear_layers(model.graph))
    assert [shared.tensor for shared in smoothing.places() if shared.tensor in ("n", "x", "e")] == []
    assert reason in reasons()
    assert model.SerializeToString() == before
