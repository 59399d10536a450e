from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import tiny_spec
from vitrify.spec import GOLDEN_RECIPES, golden_batch, golden_input, golden_logits, golden_recipe_batch, golden_vectors

MASK = (1 << 64) - 1


def by_the_book(seed: int, cell: int, c: int, y: int, x: int) -> float:
    """The docstring's formula in Python's own integers, one pixel at a time."""
    z = (seed << 32) + (c << 28) + ((y // cell) << 14) + x // cell
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    z ^= z >> 31
    return (z >> 40) / 2**22 - 2


@given(
    seed=st.integers(0, 2**32 - 1),
    cell=st.integers(1, 40),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
)
def test_every_pixel_is_the_formula(seed: int, cell: int, height: int, width: int) -> None:
    made = golden_input((3, height, width), seed=seed, cell=cell)
    assert made.dtype == np.float32
    assert made.shape == (1, 3, height, width)
    want = [[[by_the_book(seed, cell, c, y, x) for x in range(width)] for y in range(height)] for c in range(3)]
    assert np.array_equal(made[0], np.asarray(want))


def test_known_values_stay() -> None:
    # Written down once: artifacts in the field carry answers to exactly these inputs.
    made = golden_input((3, 224, 224), seed=1, cell=1)
    assert made[0, 0, 0, :4].tolist() == [
        1.0652070045471191,
        -1.4958760738372803,
        0.8037247657775879,
        0.5315048694610596,
    ]
    assert made[0, 2, 223, 223] == by_the_book(1, 1, 2, 223, 223)


def test_squares_are_constant_and_the_range_is_used() -> None:
    made = golden_input((3, 64, 64), seed=3, cell=16)[0]
    blocks = made.reshape(3, 4, 16, 4, 16)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    noise = golden_input((3, 64, 64), seed=1, cell=1)
    assert -2 <= noise.min() < -1.99
    assert 1.99 < noise.max() < 2
    assert abs(float(noise.mean())) < 0.05


def test_logits_come_back_exactly() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((len(GOLDEN_RECIPES), 6)).astype(np.float32)
    spec = tiny_spec().replace(golden=golden_vectors(logits))
    again = type(spec).from_json(spec.to_json())
    assert np.array_equal(golden_logits(again), logits)
    assert np.array_equal(golden_batch(again), golden_recipe_batch(spec.input_shape))
