"""This run against an earlier one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from vitrify.benchmark.report import BenchReport, Machine, Row

_SAME_MACHINE = ("processor", "cores", "accelerators")
_CONDITIONS = ("threads", "governor", "system")


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """One row in both runs.

    Attributes:
        name: The contender.
        batch: Images in one call.
        latency: New median over the old one; below 1 is faster. None across machines, where it would say nothing.
        relative: New over old of the row's ratio to the first row; None where the first rows are not the same, where
            the row is the first one, or where a side has no times.
        note: What keeps the rows apart: another file under this name, or no times on one side.
    """

    name: str
    batch: int
    latency: float | None
    relative: float | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs.

    Attributes:
        same_machine: Whether processor, cores and accelerators are the same, so that absolute times are compared.
        changed: What else differs, one line each: machine, conditions, versions.
        rows: Those that are in both.
        only_old: Contenders that are in the earlier run alone.
        only_new: Contenders that are in this one alone.
    """

    same_machine: bool
    changed: tuple[str, ...]
    rows: tuple[RowChange, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]


def compare_reports(new: BenchReport, old: BenchReport) -> Comparison:
    """Puts this run beside an earlier one.

    Args:
        new: This run.
        old: The earlier one.
    """
    same = all(getattr(new.machine, field) == getattr(old.machine, field) for field in _SAME_MACHINE)
    before, now = ({(row.name, row.batch): row for row in report.rows} for report in (old, new))
    return Comparison(
        same_machine=same,
        changed=tuple(_changed(old.machine, new.machine)),
        rows=tuple(_row(before[key], row, same) for key, row in now.items() if key in before),
        only_old=tuple(f"{name}, batch {batch}" for name, batch in before if (name, batch) not in now),
        only_new=tuple(f"{name}, batch {batch}" for name, batch in now if (name, batch) not in before),
    )


def _row(old: Row, new: Row, same: bool) -> RowChange:
    change = RowChange(name=new.name, batch=new.batch, latency=None, relative=None)
    notes = ["another file"] if old.sha256 != new.sha256 else []
    if old.timing is None or new.timing is None:
        notes.append("no times " + ("in both" if old.timing is new.timing else "now" if old.timing else "before"))
        return dataclasses.replace(change, note=", ".join(notes))
    first = new.timing.compared_to
    comparable = first == old.timing.compared_to and first != new.name
    return dataclasses.replace(
        change,
        latency=new.timing.median_ms / old.timing.median_ms if same else None,
        relative=new.timing.times_as_fast[1] / old.timing.times_as_fast[1] if comparable else None,
        note=", ".join(notes),
    )


def _changed(old: Machine, new: Machine) -> list[str]:
    lines = [
        f"{field}: {_shown(getattr(old, field))} -> {_shown(getattr(new, field))}"
        for field in (*_SAME_MACHINE, *_CONDITIONS)
        if getattr(old, field) != getattr(new, field)
    ]
    for name in sorted(old.versions.keys() | new.versions.keys()):
        a, b = old.versions.get(name, "absent"), new.versions.get(name, "absent")
        lines += [f"{name}: {a} -> {b}"] if a != b else []
    return lines


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "unset" if value in (None, "") else str(value)
