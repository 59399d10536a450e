"""Timings that can be compared: contenders take turns in one run."""

from vitrify.bench.turns import Turns, take_turns

__all__ = ["Turns", "take_turns"]
