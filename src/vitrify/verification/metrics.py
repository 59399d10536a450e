"""How far two sets of logits are apart, and whether that is allowed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitrify.spec import Check, Gate, InputKind, Precision

_NO_NUMBER = 1e30

Logits = npt.NDArray[np.float32]


def check_logits(
    reference: Logits,
    candidate: Logits,
    *,
    gate: Gate,
    runtime: str,
    precision: Precision,
    inputs: InputKind,
    batch: int,
) -> Check:
    """Compares two results row by row, in float64.

    Args:
        reference: `[N, classes]`.
        candidate: `[N, classes]`; a value that is not finite fails every gate.
        gate: What has to hold.
        runtime: Which runtime gave `candidate`.
        precision: In which arithmetic.
        inputs: What was fed.
        batch: Rows in one call.

    Returns:
        The measured errors and whether the gate holds. An error that is no number is recorded as 1e30, which
        JSON can carry.
    """
    if reference.shape != candidate.shape or reference.ndim != 2:
        raise ValueError(f"shapes differ: {reference.shape} and {candidate.shape}")
    finite = np.isfinite(reference) & np.isfinite(candidate)
    truth, other = (np.where(finite, values, 0).astype(np.float64) for values in (reference, candidate))
    error = np.where(finite, np.abs(other - truth), _NO_NUMBER)
    scale = np.maximum(np.abs(truth).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    agreement = float((reference.argmax(axis=1) == candidate.argmax(axis=1)).mean())
    use = float((error / (gate.absolute + gate.relative * np.abs(truth))).max())
    return Check(
        runtime=runtime,
        precision=precision,
        inputs=inputs,
        batch=batch,
        count=len(truth),
        max_absolute_error=float(error.max()),
        max_relative_error=min(float((error / scale).max()), _NO_NUMBER),
        mean_absolute_error=min(float(error.mean()), _NO_NUMBER),
        gate_use=min(use, _NO_NUMBER),
        top1_agreement=agreement,
        gate=gate,
        passed=bool(finite.all()) and use <= 1 and agreement >= gate.top1_agreement,
    )
