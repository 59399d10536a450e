"""Which recipes are tried, in which order."""

from __future__ import annotations

import dataclasses

import pytest

from vitrify.precision import FALLBACKS, Recipe, steps

BLOCKS = tuple(f"blocks.{n}" for n in range(12))
WORST = ("blocks.7", "blocks.11", "blocks.0", "blocks.3", *(b for b in BLOCKS if b[7:] not in ("7", "11", "0", "3")))


def test_eight_bits_keep_one_two_four_blocks() -> None:
    first = Recipe(precision="int8", keep=("blocks.3",))
    tried = list(steps(first, lambda recipe: WORST))
    assert [recipe.keep for recipe in tried if not recipe.keep_attention] == [
        ("blocks.3",),
        ("blocks.3", "blocks.7"),
        ("blocks.3", "blocks.7", "blocks.11"),
        ("blocks.3", "blocks.0", "blocks.1", "blocks.7", "blocks.11"),
    ]

    assert tried[3] == dataclasses.replace(first, keep_attention=True)  # four of the other eleven are more than a third
    assert str(tried[3]) == "int8, mse ranges, smoothed, attention kept, blocks.3 kept"


def test_attention_has_its_turn_by_what_it_costs() -> None:
    tried = list(steps(Recipe(precision="fp8"), lambda recipe: BLOCKS[:8]))
    assert [len(recipe.keep) for recipe in tried] == [0, 1, 2, 0, 4]  # four of eight blocks are more than a third
    assert [recipe.keep_attention for recipe in tried] == [False, False, False, True, False]
    last = list(steps(Recipe(precision="fp8"), lambda recipe: BLOCKS))[-1]
    assert last == Recipe(precision="fp8", keep_attention=True)
    asked = Recipe(precision="fp8", keep_attention=True)
    assert all(recipe.keep_attention for recipe in steps(asked, lambda recipe: BLOCKS[:8]))
    assert len(list(steps(asked, lambda recipe: BLOCKS[:8]))) == 4


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_sixteen_bits_try_the_cheap_things_first(precision: str) -> None:
    asked: list[Recipe] = []

    def rank(recipe: Recipe) -> tuple[str, ...]:
        asked.append(recipe)
        return WORST[:4]

    first = Recipe(precision=precision)  # type: ignore[arg-type]
    tried = list(steps(first, rank))
    residual = dataclasses.replace(first, residual_fp32=True)
    attention = dataclasses.replace(residual, attention_fp32=True)
    assert tried[:3] == [first, residual, attention]
    assert asked == [attention]  # what is kept is added to the rest
    assert [recipe.keep for recipe in tried[3:]] == [("blocks.7",), ("blocks.7", "blocks.11")]


def test_blocks_are_ranked_only_where_that_is_needed() -> None:
    def rank(recipe: Recipe) -> tuple[str, ...]:
        raise AssertionError("ranked too early")

    assert next(steps(Recipe(precision="int8"), rank)).keep == ()


def test_every_precision_begins_with_itself_and_ends_in_sixteen_bits() -> None:
    for target, tried in FALLBACKS.items():
        assert tried[0] == target
        assert tried[-1] == "bf16"
