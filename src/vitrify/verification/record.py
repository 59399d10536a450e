"""The record of a comparison, and the refusal when it does not hold."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence

import vitrify
from vitrify.errors import GateError
from vitrify.machine import processor_name
from vitrify.spec import Check, Verification


def record(reference: str, checks: Sequence[Check], versions: dict[str, str], *, machine: str = "") -> Verification:
    """Puts measured checks together with when, where and with what they were measured.

    Args:
        reference: What the artifact was compared with.
        checks: What was measured.
        versions: Of the runtimes that took part.
        machine: What ran it, where that is not the processor.
    """
    return Verification(
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        reference=reference,
        machine=machine or processor_name(),
        versions={"vitrify": vitrify.__version__, "python": platform.python_version(), **versions},
        checks=tuple(checks),
    )


def require_passed(checks: Sequence[Check], what: str, *, hint: str) -> None:
    """Refuses a comparison that does not hold.

    Args:
        checks: What was measured.
        what: What was judged.
        hint: How to go on.

    Raises:
        GateError: One failed; the message shows the worst.
    """
    failed = [check for check in checks if not check.passed]
    if failed:
        worst = max(failed, key=lambda check: (check.gate_use, -check.top1_agreement))
        raise GateError(
            f"{what} does not give its reference's answers", got=describe(worst), expected=gate_text(worst), hint=hint
        )


def describe(check: Check) -> str:
    """One check in a line."""
    return (
        f"{check.runtime} {check.precision} on {check.count} {check.inputs} inputs, batch {check.batch}: "
        f"error {check.max_absolute_error:.2g} ({check.gate_use:.2g} of what is allowed), "
        f"top-1 agreement {check.top1_agreement:.2%}"
    )


def gate_text(check: Check) -> str:
    """What a check's gate asks for, in a line."""
    gate = check.gate
    return (
        f"error within {gate.absolute:g} + {gate.relative:g} of each logit, top-1 agreement {gate.top1_agreement:.0%}"
    )
