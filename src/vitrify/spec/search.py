"""The record of how an artifact got its precision: what was tried, what it measured, and why it was taken or left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "bf16", "fp16", "int8", "fp8"]

PRECISION_SEARCH = "vitrify.precision_search"
"""The extension of the spec that holds a `PrecisionSearch`."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One candidate, or the source itself in one precision of the runtime.

    Attributes:
        recipe: What was done, in words; `source` for the source.
        precision: Of the graph.
        asked: Precision that the runtime was asked for; fp32 is the graph's own.
        top1: Share of labelled images with the right answer; None without labels.
        agreement: Share of images with the source's answer; None where not all images were answered.
        relative_error: Largest over the images of max |logits - source| / max |source|; None as `agreement`.
        lost: Images that the source answers rightly (without labels: in its own way) and this does not; None as
            `agreement`.
        gained: Images that this answers rightly and the source does not; None without labels too.
        loss_bounds: Least and largest true loss, as shares, that this does not exclude, each with the search's
            `confidence`; None where `lost` is.
        latency_ms: Of one inference, in the round of its race whose ratio is the median; None where there was no race.
        rival: What took turns with it in that race, and was least behind: the source and its precision.
        rival_ms: The rival's in the same round.
        speedup: Times faster than the rival: median over the rounds.
        speedup_low: The first quartile of that over all rivals, which has to be above 1.
        passed: Whether all gates held. Of several, the one that loses least is taken.
        reason: Which did not; empty where it passed.
    """

    recipe: str
    precision: Precision
    asked: Precision = "fp32"
    top1: float | None = None
    agreement: float | None = None
    relative_error: float | None = None
    lost: int | None = None
    gained: int | None = None
    loss_bounds: tuple[float, float] | None = None
    latency_ms: float | None = None
    rival: str = ""
    rival_ms: float | None = None
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
        confidence: With which a loss has to be beyond its limit to be refused, 0.5 to 1.
        min_speedup: Least median speedup; None where speed was not judged.
        smoothed: Modules whose input channels were scaled, in the artifact that was taken.
        time_s: Seconds that the search was given; None for as long as it takes.
        stopped: Why it ended before one candidate held or all were tried; empty where it did not.
        attempts: The source's precisions first, then each candidate in order.
        taken: Which of `attempts` was taken; None where none was.
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
    confidence: float = 0.8
    smoothed: tuple[str, ...] = ()
    time_s: float | None = None
    stopped: str = ""
    attempts: tuple[Attempt, ...]
    taken: int | None = None

    @property
    def allowed(self) -> float:
        """Share of the images whose answer may be lost."""
        return self.max_drop if self.max_drop is not None else 1 - (self.min_agreement or 0.0)
