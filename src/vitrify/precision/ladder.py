"""What to try next: the steps from the precision that was asked for down to one that holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from vitrify.precision.recipe import Recipe, Target

FALLBACKS: dict[Target, tuple[Target, ...]] = {
    "fp8": ("fp8", "fp16", "bf16"),
    "int8": ("int8", "fp16", "bf16"),
    "fp16": ("fp16", "bf16"),
    "bf16": ("bf16",),
}
"""The precisions that are tried for each that may be asked for; after the last, the fp32 source is what is left."""

Rank = Callable[[Recipe], Sequence[str]]
"""Gives the blocks of the network, the one that a recipe harms most first."""


def steps(first: Recipe, rank: Rank) -> Iterator[Recipe]:
    """Recipes of one precision, from the quickest to the most careful.

    First what costs least: in 16 bits the residual stream, then attention in fp32. Then the worst blocks stay as they
    are: one, two, four and so on, up to half of them; with more, little is left to gain. In 8 bits attention may stay
    out as a whole, where all blocks suffer in it. It is a third of the arithmetic of linear layers, so that its turn
    comes before more than a third of the blocks are kept.

    Args:
        first: The recipe to begin with.
        rank: Called once, when the cheaper steps did not help.
    """
    yield first
    careful = first
    if first.precision in ("fp16", "bf16"):
        careful = dataclasses.replace(first, residual_fp32=True)
        if careful != first:
            yield careful
        attention = dataclasses.replace(careful, attention_fp32=True)
        if attention != careful:
            careful = attention
            yield careful
    worst = [block for block in rank(careful) if block not in first.keep]
    attention_kept = [dataclasses.replace(first, keep_attention=True)]
    if first.precision in ("fp16", "bf16") or first.keep_attention:
        attention_kept = []
    count = 1
    while count <= max(1, len(worst) // 2):
        if 3 * count > len(worst):
            yield from attention_kept
            attention_kept = []
        yield dataclasses.replace(careful, keep=(*first.keep, *sorted(worst[:count], key=_number)))
        count *= 2
    yield from attention_kept


def _number(block: str) -> int:
    return int(block.rpartition(".")[2])
