"""What leaves each part is given out in float32, and everything else stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.graphs.rewrites.text import numbers, operators, parsed, run
from vitrify.graphs.rewrites.probes import probed_model

MODULES = {"p": "patch_embed", "a": "blocks.0", "h": "blocks.1", "i": "ids", "y": "head"}


def test_parts_are_given_out_whatever_their_type() -> None:
    model = parsed(
        """g (float[B, 4] x) => (float[B, 3] y)
           { p = Mul (x, x) t = Add (p, x) a = Erf (t) n = Cast <to = 10> (a) h = Mul (n, n) f = Cast <to = 1> (h)
             y = MatMul (f, w) }""",
        {"w": numbers(4, 3)},
        modules=MODULES | {"n": "blocks.1", "f": "head"},
    )
    x = numbers(2, 4, seed=1)
    before = run(model, x=x)["y"]
    content = model.SerializeToString()
    probed, outputs = probed_model(model)
    assert model.SerializeToString() == content
    assert list(outputs) == ["patch_embed", "embedding", "blocks.0", "blocks.1", "head"]
    found = run(probed, x=x)
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found["y"], before)
    np.testing.assert_allclose(found[outputs["patch_embed"]], x * x)
    np.testing.assert_allclose(found[outputs["embedding"]], x * x + x, rtol=1e-6)
    np.testing.assert_allclose(found[outputs["blocks.1"]], found[outputs["blocks.0"]] ** 2, atol=2e-3)
    assert len(operators(probed)) == len(operators(model)) + 1  # the cast of fp16


def test_whole_numbers_are_not_compared(reasons: Callable[[], str]) -> None:
    text = "g (float[B, 4] x) => (float[B, 4] y) { i = Cast <to = 7> (x) y = Cast <to = 1> (i) }"
    probed, outputs = probed_model(parsed(text, modules=MODULES))
    assert list(outputs) == ["head"]
    assert [value.name for value in probed.graph.output] == ["y"]
    assert "Probes: ids gives out INT64 numbers, i" in reasons()
