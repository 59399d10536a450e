"""The sizes that a Where chooses by a constant are written where they would be chosen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.graphs.rewrites.text import numbers, operators, parsed, run
from vitrify.graphs.rewrites.known_sizes import KnownSizes

TEXT = """
    g (float[1, 2] x, int64[1] batch) => (float[B, 2] y)
    <int64[1] two = {{2}}, bool[2] choose = {{{choose}}}, int64[2] chosen = {{7, 2}}, int64[2] pair = {{3, 2}}>
    {{ sizes = Concat <axis = 0> ({pieces}) shape = Where ({condition}, chosen, sizes) y = Expand (x, shape) }}"""


@pytest.mark.parametrize("choose", ["0, 1", "1, 1", "0, 0", "1, 0"])
def test_the_answer_stays(choose: str) -> None:
    model = parsed(TEXT.format(choose=choose, pieces="batch, two", condition="choose"))
    given = {"x": numbers(1, 2), "batch": np.array([5])}
    before = run(model, **given)["y"]
    assert before.shape == (7 if choose[0] == "1" else 5, 2)
    assert len(KnownSizes(model).apply()) == 1
    np.testing.assert_array_equal(run(model, **given)["y"], before)
    assert operators(model) == ["Concat", "Expand"]
    assert {weight.data_type for weight in model.graph.initializer} <= {7}


@pytest.mark.parametrize(
    ("condition", "pieces", "reason"),
    [
        ("computed", "batch, two", "what Where_2 chooses is computed"),
        ("choose", "pair", "Where_1 chooses from pieces of several numbers"),
    ],
)
def test_what_is_not_known_stays(reasons: Callable[[], str], condition: str, pieces: str, reason: str) -> None:
    text = TEXT.format(choose="0, 1", pieces=pieces, condition=condition)
    if condition == "computed":
        text = text.replace("{ sizes", "{ computed = Not (choose) sizes")
    model = parsed(text)
    assert KnownSizes(model).apply() == ()
    assert "Where" in operators(model)
    assert reason in reasons()
