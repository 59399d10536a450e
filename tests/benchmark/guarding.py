"""What the speed guard is made of: a ratio that a busy machine does not move, and what the processor can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vitrify.timing import take_turns

_TRIES = 2


def best_of(contenders: Mapping[str, Callable[[], object]], name: str, over: str, needed: float) -> float:
    """The median over rounds of how many times as fast one contender is as another, in turns.

    Measured a second time where it is not enough: what else the machine did may have spoiled the first.
    """
    found = 0.0
    for _ in range(_TRIES):
        turns = take_turns(contenders, rounds=15, budget_s=10.0, settling_calls=1)
        found = max(found, turns.speedup(name, over)[1])
        if found >= needed:
            break
    return found


INT8_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp")
"""Linux's names of instructions that multiply int8."""


def has_any(instructions: tuple[str, ...], cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has one of these, as Linux tells."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "").split()
    return not set(instructions).isdisjoint(flags)
