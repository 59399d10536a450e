"""How far one part of a network is from the same part of a reference, gathered batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitrify.runtimes import Array
from vitrify.spec import Precision

FP16_MAX = 65504.0
"""The largest finite float16 (IEEE 754 binary16)."""

NEAR_FP16_MAX = FP16_MAX / 2
"""From here on, a value that doubles is infinite in float16."""

DRIFT_TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 8e-2, "fp8": 0.25, "int8": 0.2}
"""Largest relative error that a part may have, by the candidate's arithmetic.

A rounding is off by at most u = 2^-24 in fp32, 2^-11 in fp16, 2^-8 in bf16. A ViT of 24 blocks rounds the residual
stream's way some 150 times, and independent errors add as a square root: 12 u, 20 u with some room for what is larger
than its sum (1e-2 and 8e-2). In fp32 the order of a product's sum differs between runtimes as well, which costs up to
sqrt(4096) u a product: 150 products are 12 * 64 u = 5e-5.

In 8 bits it is the step that counts. Rounding to steps d apart is off by d / sqrt(12) (RMS). int8 has 127 steps up to
the range r: off by r / (127 sqrt(12)), which is c / 440 of a tensor's RMS where r is c times that. c is 3 to 5 for a
channel of weights, 4 to 12 for an activation of a ViT whose outliers were smoothed. E4M3 has 8 steps between two powers
of two: off by 1 / (8 sqrt(12)) of the lower one, 2.7% of the RMS of what is close to normal, whatever the range. A
linear layer has the errors of both its operands: with c of 4 and 10, sqrt(4^2 + 10^2) / 440 = 2.5% in int8; in fp8,
sqrt(2) 2.7% = 3.8%. A ViT of 12 blocks has 48 such layers; if each passed on all that it was given, independent errors
would add to sqrt(48) times that, 17% and 26%: 0.2 and 0.25. The residual stream carries most of what enters a block
past its layers, so that a sound file stays far below, and one that reaches this has lost something.
"""


@dataclass(frozen=True, kw_only=True)
class PartDrift:
    """How far one part is from the reference's.

    Attributes:
        part: Its name, such as `blocks.3`.
        shape: Of what leaves it, for one image.
        max_absolute_error: Over finite values.
        mean_absolute_error: Over finite values.
        relative_error: RMS of the difference over RMS of the reference; 1 where the reference is all zero and the
            candidate is not.
        snr_db: Signal to noise, -20 log10(relative_error); None where nothing differs.
        growth: The relative error over that of the part before; None for the first, and after an exact one.
        worst_image: Row of the largest absolute error among the inputs.
        worst_index: Where in one image that error is: `(token, channel)` for a block, `(class,)` for a head.
        worst_token: The token whose differences hold the most power; None where the part has not several.
        worst_token_share: Its share of the whole power of the differences, 0 to 1.
        worst_channel: The entry of the last axis whose differences hold the most power.
        worst_channel_share: Its share: close to 1 where one outlier channel makes the error.
        reference_magnitude: Largest finite absolute value of the reference.
        candidate_magnitude: Of the candidate.
        near_fp16_limit: Whether one of both is from half of 65504 on, where float16 is about to overflow.
        reference_nan: Values that are no number.
        reference_inf: Values that are infinite.
        candidate_nan: Values that are no number.
        candidate_inf: Values that are infinite.
        passed: Whether the relative error is within the tolerance and every value finite.
    """

    part: str
    shape: tuple[int, ...]
    max_absolute_error: float
    mean_absolute_error: float
    relative_error: float
    snr_db: float | None
    growth: float | None
    worst_image: int
    worst_index: tuple[int, ...]
    worst_token: int | None
    worst_token_share: float
    worst_channel: int
    worst_channel_share: float
    reference_magnitude: float
    candidate_magnitude: float
    near_fp16_limit: bool
    reference_nan: int
    reference_inf: int
    candidate_nan: int
    candidate_inf: int
    passed: bool

    @property
    def finite(self) -> bool:
        """Whether both sides are finite throughout."""
        return not (self.reference_nan or self.reference_inf or self.candidate_nan or self.candidate_inf)

    @property
    def not_finite(self) -> str:
        """What is not finite and where, in words; empty where everything is finite."""
        counts = {
            "NaN": (self.candidate_nan, self.reference_nan),
            "Inf": (self.candidate_inf, self.reference_inf),
        }
        words = [f"{n} {kind}" for kind, pair in counts.items() for n in pair[:1] if n]
        words += [f"{pair[1]} {kind} in the reference" for kind, pair in counts.items() if pair[1]]
        return ", ".join(words)


class DriftMeter:
    """Sums one part's differences over batches, in float64. What it holds does not grow with the number of images.

    Args:
        part: The part's name.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self._images = self._values = 0
        self._absolute = self._error = self._signal = 0.0
        self._largest, self._worst = -1.0, (0, 0)
        self._magnitudes = [0.0, 0.0]
        self._nan, self._inf = [0, 0], [0, 0]
        self._power: npt.NDArray[np.float64] = np.zeros(0)
        self._shape: tuple[int, ...] = ()

    def add(self, reference: Array, candidate: Array) -> None:
        """Takes a batch of both, `[B, ...]` of one shape."""
        if reference.ndim == 1:
            reference, candidate = reference[:, None], candidate[:, None]
        if not self._images:
            self._shape = reference.shape[1:]
            self._power = np.zeros(self._shape)
        for side, values in enumerate((reference, candidate)):
            self._nan[side] += int(np.isnan(values).sum())
            self._inf[side] += int(np.isinf(values).sum())
            magnitudes = np.abs(values[np.isfinite(values)])
            self._magnitudes[side] = max(self._magnitudes[side], float(magnitudes.max(initial=0)))
        finite = np.isfinite(reference) & np.isfinite(candidate)
        truth, other = (np.where(finite, values, 0).astype(np.float64) for values in (reference, candidate))
        difference = np.abs(other - truth)
        worst = int(difference.argmax())
        if difference.flat[worst] > self._largest:
            image, index = divmod(worst, math.prod(self._shape))
            self._largest, self._worst = float(difference.flat[worst]), (self._images + image, index)
        self._values += int(finite.sum())
        self._images += len(reference)
        self._absolute += float(difference.sum())
        self._signal += float((truth**2).sum())
        np.square(difference, out=difference)
        self._error += float(difference.sum())
        self._power += difference.sum(axis=0)

    def result(self, tolerance: float, *, before: PartDrift | None) -> PartDrift:
        """What was measured.

        Args:
            tolerance: Largest relative error that passes.
            before: The part before this one.
        """
        relative = math.sqrt(self._error / self._signal) if self._signal else float(self._error > 0)
        channels = self._power.reshape(-1, self._shape[-1]).sum(axis=0)
        by_token = self._power.reshape(-1, self._shape[-1]).sum(axis=1)
        tokens = by_token if len(by_token) > 1 else None
        whole = self._error or 1.0
        finite = not any((*self._nan, *self._inf))
        return PartDrift(
            part=self.part,
            shape=self._shape,
            max_absolute_error=max(self._largest, 0.0),
            mean_absolute_error=self._absolute / max(self._values, 1),
            relative_error=relative,
            snr_db=-20 * math.log10(relative) if relative else None,
            growth=relative / before.relative_error if before is not None and before.relative_error else None,
            worst_image=self._worst[0],
            worst_index=tuple(int(n) for n in np.unravel_index(self._worst[1], self._shape)),
            worst_token=int(tokens.argmax()) if tokens is not None else None,
            worst_token_share=float(tokens.max() / whole) if tokens is not None else 0.0,
            worst_channel=int(channels.argmax()),
            worst_channel_share=float(channels.max() / whole),
            reference_magnitude=self._magnitudes[0],
            candidate_magnitude=self._magnitudes[1],
            near_fp16_limit=max(self._magnitudes) >= NEAR_FP16_MAX,
            reference_nan=self._nan[0],
            reference_inf=self._inf[0],
            candidate_nan=self._nan[1],
            candidate_inf=self._inf[1],
            passed=finite and relative <= tolerance,
        )
