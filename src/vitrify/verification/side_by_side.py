"""One input's probabilities in every runtime, as a person wants to see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitrify.classifier import probabilities
from vitrify.spec import ModelSpec
from vitrify.verification.metrics import Logits


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """The same input's probabilities in every runtime.

    Attributes:
        source: What was fed.
        labels: The reference's best labels, best first.
        columns: `runtime precision` to the probabilities of those labels; the reference comes first.
    """

    source: str
    labels: tuple[str, ...]
    columns: dict[str, tuple[float, ...]]

    def differences(self, column: str) -> tuple[float, ...]:
        """What a column has more than the reference, label by label."""
        truth = next(iter(self.columns.values()))
        return tuple(b - a for a, b in zip(truth, self.columns[column], strict=True))


def side_by_side(source: str, spec: ModelSpec, logits: Mapping[str, Logits], *, count: int = 5) -> SideBySide:
    """Sorts by the first column.

    Args:
        source: What was fed.
        spec: Gives the labels and how logits become probabilities.
        logits: Column name to `[1, classes]`; the reference comes first.
        count: Labels to show.
    """
    rows = {name: probabilities(value, spec)[0] for name, value in logits.items()}
    best = (-next(iter(rows.values()))).argsort(kind="stable")[:count]
    return SideBySide(
        source=source,
        labels=tuple(spec.labels[i] for i in best),
        columns={name: tuple(float(row[i]) for i in best) for name, row in rows.items()},
    )
