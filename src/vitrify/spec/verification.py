"""The record of a comparison: what was fed, what had to hold, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitrify.spec.search import Precision

MIN_IMAGES = 32
"""Real images that a reduced precision must have been judged on before anything uses it unasked."""

InputKind = Literal["golden", "random", "images"]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What has to hold: `|candidate - reference| <= absolute + relative * |reference|`, and the top-1 agreement.

    Attributes:
        absolute: Allowed absolute error of each logit.
        relative: Allowed error relative to each reference logit.
        top1_agreement: Least fraction of rows whose best class is the reference's best class.
    """

    absolute: float
    relative: float
    top1_agreement: float


@dataclass(frozen=True, kw_only=True)
class Check:
    """One measured comparison of an artifact in one runtime with its reference.

    Attributes:
        runtime: Registry name of the runtime that ran the artifact.
        precision: Arithmetic that the runtime was asked for.
        inputs: What was fed: golden vectors, random tensors, or real images.
        batch: Images in one call.
        count: Images in all.
        max_absolute_error: Largest `|candidate - reference|` over all logits.
        max_relative_error: Largest error of a row relative to the row's largest `|reference|`.
        mean_absolute_error: Mean of `|candidate - reference|`.
        gate_use: Largest `error / (absolute + relative * |reference|)`; above 1 the gate does not hold.
        top1_agreement: Fraction of rows with the same best class.
        gate: What was asked for.
        passed: Whether it held.
    """

    runtime: str
    precision: Precision
    inputs: InputKind
    batch: int
    count: int
    max_absolute_error: float
    max_relative_error: float
    mean_absolute_error: float
    gate_use: float
    top1_agreement: float
    gate: Gate
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The record of a comparison, written into the artifact that it judged.

    Attributes:
        date: UTC, ISO 8601.
        reference: What the artifact was compared with, such as `torch fp32`.
        machine: Processor, as the operating system names it.
        versions: Of every library that took part.
        checks: Each measured comparison.
    """

    date: str
    reference: str
    machine: str
    versions: dict[str, str]
    checks: tuple[Check, ...]

    def allows(self, runtime: str, precision: Precision) -> bool:
        """Whether this runtime held its gate at this precision, on at least `MIN_IMAGES` real images."""
        checks = [check for check in self.checks if (check.runtime, check.precision) == (runtime, precision)]
        seen = sum(check.count for check in checks if check.inputs == "images")
        return seen >= MIN_IMAGES and all(check.passed for check in checks)
