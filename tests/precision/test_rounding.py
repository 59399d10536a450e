"""Weights that cannot saturate: the rule always holds, and the layer's output suffers least."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.graphs.test_saturation import exact, maddubs
from tests.precision.digits import SPEC, Digits
from vitrify.graphs import saturating_pairs, saturating_products
from vitrify.graphs.rewrites.qdq import INT8
from vitrify.pixels import preprocess
from vitrify.precision import Recipe, Rewriter
from vitrify.precision.rounding import round_weights, weight_scales, widened_scales


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 140), st.integers(1, 12), st.booleans(), st.sampled_from([1.0, 1.4, 2.0]), st.integers(0, 2**32))
def test_no_pair_can_saturate(inputs: int, outputs: int, sampled: bool, widening: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = (rng.standard_normal((inputs, outputs)) * rng.lognormal(0, 1, outputs)).astype(np.float32)
    rows = rng.standard_normal((50, inputs)).astype(np.float32) if sampled else None
    numbers = round_weights(weights, weight_scales(weights, INT8) * np.float32(widening), rows)
    assert numbers.dtype == np.int8
    assert np.abs(numbers.astype(int)).max() <= 127
    assert saturating_pairs(numbers) == 0
    activations = rng.choice(np.array([0, 1, 254, 255], np.uint8), (64, inputs))
    np.testing.assert_array_equal(maddubs(activations, numbers), exact(activations, numbers))


def test_weights_that_were_rounded_freely_do_saturate() -> None:
    weights = np.random.default_rng(0).standard_normal((768, 64)).astype(np.float32)
    free = INT8.quantize(weights, weight_scales(weights, INT8))
    activations = np.random.default_rng(1).choice(np.array([0, 255], np.uint8), (64, 768))
    assert (maddubs(activations, free) != exact(activations, free)).any()


def output_error(numbers: np.ndarray, scales: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> float:
    off = rows.astype(np.float64) @ (numbers.astype(np.float64) * scales - weights)
    return float(np.square(off).mean())


def test_what_a_small_layer_gets_is_close_to_the_best_that_there_is() -> None:
    rng = np.random.default_rng(3)
    offsets = np.array(list(itertools.product(range(-1, 2), repeat=6)))
    settled, nearest = [], []
    for _ in range(20):
        weights = rng.standard_normal((6, 1)).astype(np.float32)
        rows = (rng.standard_normal((200, 3)) @ rng.standard_normal((3, 6))).astype(np.float32)
        rows += rng.standard_normal(rows.shape).astype(np.float32) * np.float32(0.3)
        scales = weight_scales(weights, INT8) * np.float32(2)
        # Every combination near the real-valued weights that obeys the rule, of 3^6.
        near = (np.rint(weights / scales).T + offsets).astype(np.int8)[:, :, None]
        best = min(output_error(n, scales, weights, rows) for n in near if not saturating_pairs(n))
        settled.append(output_error(round_weights(weights, scales, rows), scales, weights, rows) / best)
        nearest.append(output_error(round_weights(weights, scales), scales, weights, rows) / best)
    assert np.median(settled) < 2.5
    assert np.median(nearest) > 2 * np.median(settled)
    assert all(s <= n * 1.0001 for s, n in zip(settled, nearest, strict=True))


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_output_is_nearer_than_with_weights_rounded_freely(spread: float) -> None:
    rng = np.random.default_rng(7)
    weights = rng.standard_normal((256, 96)).astype(np.float32)
    # Channels that fire together, as after any trained layer.
    rows = rng.standard_normal((2000, 64)) @ rng.standard_normal((64, 256)) * rng.lognormal(0, spread, 256)
    seen, fresh = rows[:1000].astype(np.float32), rows[1000:].astype(np.float32)
    scales = weight_scales(weights, INT8)
    wider = widened_scales(weights, scales, seen)
    free = output_error(INT8.quantize(weights, scales), scales, weights, fresh)
    safe = output_error(round_weights(weights, wider, seen), wider, weights, fresh)
    assert safe < free
    assert safe < 0.5 * output_error(round_weights(weights, scales), scales, weights, fresh)


def test_whole_models_are_proven(trained: Digits) -> None:
    batch = preprocess(trained.calibration, SPEC.preprocess)
    rewriter = Rewriter(onnx.load(trained.onnx), lambda: [batch])
    for recipe in (
        Recipe(precision="int8"),
        Recipe(precision="int8", smooth=False),
        Recipe(precision="int8", split_qkv=True, around="bf16", keep=("blocks.1",)),
    ):
        assert saturating_products(rewriter.rewrite(recipe).proto) == ()
