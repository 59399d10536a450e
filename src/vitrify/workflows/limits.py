"""What a file in a lower precision is held to."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.errors import OptionError
from vitrify.workflows.races import MIN_SPEEDUP, require_speedup


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What has to hold.

    Attributes:
        max_drop: Most top-1 accuracy that may be lost against the source, 0 to 1, where there are labels.
        min_agreement: Least share of the source's answers, where there are none.
        confidence: A loss is refused where it is beyond its limit with this confidence, 0.5 to 1: of few images, one
            more answer may be chance. At 0.5, what was measured decides.
        min_speedup: Least median speedup over the source in the fastest precision in which it holds its own gate; the
            first quartile has to be above 1 besides. None does not judge speed.
    """

    max_drop: float = 0.005
    min_agreement: float = 0.99
    confidence: float = 0.8
    min_speedup: float | None = MIN_SPEEDUP

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 1 or not 0 <= self.min_agreement <= 1:
            raise OptionError(
                "a limit is no share", got=f"{self.max_drop:g}, {self.min_agreement:g}", expected="0 to 1 (0 to 100%)"
            )
        if not 0.5 <= self.confidence < 1:
            raise OptionError(
                "a confidence that cannot be", got=f"{self.confidence:g}", expected="0.5 to less than 1 (50 to 99.9%)"
            )
        if self.min_speedup is not None:
            require_speedup(self.min_speedup)

    def allowed(self, *, labelled: bool) -> float:
        """The share of images whose answer may be lost."""
        return self.max_drop if labelled else 1 - self.min_agreement
