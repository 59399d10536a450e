"""The record of how an artifact got its precision: what was tried, what it measured, and why it was taken or left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "bf16", "fp16", "int8", "fp8"]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One candidate, or the source itself in one precision of the runtime.

    Attributes:
        recipe: What was done, in words; `source` for the source.
        precision: Of the graph.
        asked: Precision that the runtime was asked for; fp32 is the graph's own.
        top1: Share of labelled images with the right answer; None without labels.
        agreement: Share of images with the source's answer.
        relative_error: Largest over the images of max |logits - source| / max |source|.
        latency_ms: Median of one inference; None where it was not measured.
        speedup: Times faster than the source in the fastest precision in which it holds its own gate: median over the
            rounds.
        speedup_low: The first quartile of that, which has to be above 1.
        passed: Whether all gates held.
        reason: Which did not; empty where it passed.
    """

    recipe: str
    precision: Precision
    asked: Precision = "fp32"
    top1: float | None = None
    agreement: float
    relative_error: float
    latency_ms: float | None = None
    speedup: float | None = None
    speedup_low: float | None = None
    passed: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PrecisionSearch:
    """A search for the first artifact that is accurate enough and faster.

    Attributes:
        source_sha256: Of the fp32 file.
        target: What was asked for.
        runtime: What ran the candidates.
        machine: On which processor.
        batch: Images in one timed inference.
        images: How many the accuracy was judged on.
        calibration_images: How many gave magnitudes and ranges.
        max_drop: Allowed loss of top-1 accuracy, 0 to 1, with labels.
        min_agreement: Least agreement with the source, without labels.
        min_speedup: Least median speedup; None where speed was not judged.
        smoothed: Modules whose input channels were scaled, in the artifact that was taken.
        attempts: The source's precisions first, then each candidate in order; the last is the one that was taken.
    """

    source_sha256: str
    target: Precision
    runtime: str
    machine: str
    batch: int
    images: int
    calibration_images: int
    max_drop: float | None
    min_agreement: float | None
    min_speedup: float | None
    smoothed: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...]
