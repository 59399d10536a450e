"""How a graph gets a lower precision, and what to try next where that does not hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vitrify.precision.observing import Calibrator

Target = Literal["fp16", "bf16", "int8", "fp8"]
Around = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to lower the precision of an fp32 graph.

    Attributes:
        precision: What linear layers are to compute in.
        around: With int8 and fp8, what everything else computes in.
        calibrator: With int8 and fp8, how the ranges of activations are chosen.
        smooth: With int8 and fp8, whether outlier channels are moved into weights first.
        residual_fp32: In 16 bits, whether the sums of the residual stream stay in fp32.
        attention_fp32: In 16 bits, whether attention stays in fp32 from the scores to the weighted values.
        keep_attention: With int8 and fp8, whether attention stays out as a whole: its linear layers as they are, and
            with 16 bits around, what lies between the scores and the weighted values in fp32.
        split_qkv: With int8 and fp8, whether queries, keys and values get a product each, which TensorRT wants.
        keep: Parts, such as `blocks.3`, that stay as they are: 16 bits leaves them in fp32, 8 bits in `around`.
        narrow: Whether the graph takes and gives the 16-bit type instead of fp32.
    """

    precision: Target
    around: Around = "fp32"
    calibrator: Calibrator = "mse"
    smooth: bool = True
    residual_fp32: bool = False
    attention_fp32: bool = False
    keep_attention: bool = False
    split_qkv: bool = False
    keep: tuple[str, ...] = ()
    narrow: bool = False

    def __str__(self) -> str:
        said: list[str] = [self.precision]
        if self.precision in ("int8", "fp8"):
            said += [f"{self.calibrator} ranges"] + ["smoothed"] * self.smooth
            said += [f"{self.around} around"] * (self.around != "fp32") + ["qkv apart"] * self.split_qkv
        said += ["residual fp32"] * self.residual_fp32 + ["attention fp32"] * self.attention_fp32
        said += ["attention kept"] * self.keep_attention
        if self.keep:
            said.append(f"{', '.join(self.keep)} kept")
        return ", ".join(said)


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
