"""Inputs that ten lines of integer arithmetic make, the same in Python and in C++, so that an artifact proves itself.

    value(seed, c, y, x) = (mix(seed * 2^32 + c * 2^28 + (y / cell) * 2^14 + x / cell) >> 40) / 2^22 - 2

`mix` is one step of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014) on
unsigned 64-bit integers. The 24 bits that are left make a multiple of 2^-22 in [-2, 2), which float32 holds exactly:
there is nothing to round, so every language and processor agrees to the last bit. Squares of `cell` equal pixels put
the energy at several spatial frequencies; single-pixel noise alone averages out in a patch embedding and proves
little.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitrify.spec.model_spec import GoldenVector, ModelSpec

GOLDEN_RECIPES: tuple[tuple[int, int], ...] = ((1, 1), (2, 4), (3, 16))
"""`(seed, cell)` of the vectors that an export writes."""


def golden_input(shape: tuple[int, int, int], *, seed: int, cell: int) -> npt.NDArray[np.float32]:
    """Makes one input.

    Args:
        shape: `(channels, height, width)`, each side below 16384.
        seed: 0 to 2^32 - 1.
        cell: Side of the equal-valued squares, in pixels, at least 1.

    Returns:
        `[1, channels, height, width]` float32 in [-2, 2).
    """
    channel, row, column = np.indices(shape, dtype=np.uint64, sparse=True)
    side = np.uint64(cell)
    z = (
        (np.uint64(seed) << np.uint64(32))
        + (channel << np.uint64(28))
        + (row // side << np.uint64(14))
        + column // side
    )
    z = (z + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = (z ^ (z >> np.uint64(31))) >> np.uint64(40)
    values: npt.NDArray[np.float32] = (z.astype(np.int64) - (1 << 23)).astype(np.float32) / np.float32(1 << 22)
    return values[None]


def golden_batch(spec: ModelSpec) -> npt.NDArray[np.float32]:
    """The inputs of all of a spec's golden vectors, `[vectors, C, H, W]` float32."""
    return np.concatenate([golden_input(spec.input_shape, seed=v.seed, cell=v.cell) for v in spec.golden])


def golden_logits(spec: ModelSpec) -> npt.NDArray[np.float32]:
    """What PyTorch answered to `golden_batch`, `[vectors, classes]` float32."""
    return np.asarray([v.logits for v in spec.golden], dtype=np.float32)


def golden_vectors(logits: npt.NDArray[np.float32]) -> tuple[GoldenVector, ...]:
    """Pairs `GOLDEN_RECIPES` with the logits `[recipes, classes]` that the reference gave."""
    return tuple(
        # The shortest decimal that gives the same float32 back keeps the text small.
        GoldenVector(seed=seed, cell=cell, logits=tuple(float(np.format_float_scientific(x)) for x in row))
        for (seed, cell), row in zip(GOLDEN_RECIPES, logits.astype(np.float32), strict=True)
    )


def golden_recipe_batch(shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """The inputs of `GOLDEN_RECIPES`, `[recipes, C, H, W]` float32."""
    return np.concatenate([golden_input(shape, seed=seed, cell=cell) for seed, cell in GOLDEN_RECIPES])
