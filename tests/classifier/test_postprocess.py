from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import LABELS, tiny_spec
from vitrify.classifier import probabilities, top_labels

LOGITS = st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=6, max_size=6), min_size=1, max_size=4)


@given(LOGITS)
def test_softmax_is_torchs_in_float64(rows: list[list[float]]) -> None:
    logits = np.asarray(rows, np.float32)
    want = torch.from_numpy(logits).double().softmax(dim=1).numpy()
    np.testing.assert_allclose(probabilities(logits, tiny_spec()), want, rtol=1e-12, atol=1e-300)


@given(LOGITS)
def test_sigmoid_is_torchs_in_float64(rows: list[list[float]]) -> None:
    logits = np.asarray(rows, np.float32)
    spec = tiny_spec().replace(output=dataclasses.replace(tiny_spec().output, task="multi-label"))
    want = torch.from_numpy(logits).double().sigmoid().numpy()
    np.testing.assert_allclose(probabilities(logits, spec), want, rtol=1e-12, atol=1e-300)


def test_a_network_that_gives_probabilities_is_believed() -> None:
    spec = tiny_spec().replace(output=dataclasses.replace(tiny_spec().output, kind="probabilities"))
    rows = np.asarray([[0.1, 0.2, 0.3, 0.2, 0.1, 0.1]], np.float32)
    np.testing.assert_array_equal(probabilities(rows, spec), rows.astype(np.float64))


def test_best_first_and_ties_in_the_order_of_the_labels() -> None:
    top = top_labels(np.asarray([0.1, 0.3, 0.1, 0.3, 0.1, 0.1]), LABELS, 4)
    assert [(score.label, score.index) for score in top] == [
        ("dandelion", 1),
        ("sunflower", 3),
        ("daisy", 0),
        ("rose", 2),
    ]
    assert top[0].probability == pytest.approx(0.3)
    assert len(top_labels(np.ones(6), LABELS, 99)) == 6
