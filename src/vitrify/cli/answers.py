"""Predictions as a table, JSON lines or CSV, written as they come.

CSV is for spreadsheets: what one would take for a formula, and what a terminal would obey, is written so that it is
neither. JSON lines have every name as it is.
"""

from __future__ import annotations

import csv
import sys
from typing import Literal

from rich.text import Text

from vitrify.classifier import Failure, Prediction
from vitrify.cli.tables import table
from vitrify.console import json_text, out
from vitrify.text import for_csv

Format = Literal["table", "jsonl", "csv"]


class AnswerWriter:
    """Writes each answer to stdout; a table appears whole at `finish`, the other formats line by line."""

    def __init__(self, format: Format) -> None:
        self._format = format
        self._table = table("image", "label", "probability", "others", right=["probability"])
        self._csv = csv.writer(sys.stdout)
        if format == "csv":
            self._csv.writerow(["image", "label", "probability", "top", "error"])

    def write(self, answer: Prediction | Failure) -> None:
        """Takes the next answer."""
        if self._format == "jsonl":
            sys.stdout.write(json_text(_record(answer)) + "\n")
            sys.stdout.flush()
        elif isinstance(answer, Failure):
            if self._format == "csv":
                self._write_row(answer.source, "", "", "", _reason(answer))
            else:
                self._table.add_row(answer.source, Text("unreadable", style="red"), "", _reason(answer))
        elif self._format == "csv":
            top = " ".join(f"{score.label}={score.probability:.6f}" for score in answer.top)
            self._write_row(answer.source, answer.label, f"{answer.probability:.6f}", top, "")
        else:
            others = "  ".join(f"{score.label} {score.probability:.3f}" for score in answer.top[1:])
            self._table.add_row(answer.source, answer.label, f"{answer.probability:.4f}", others)

    def _write_row(self, *cells: object) -> None:
        self._csv.writerow([for_csv(cell) for cell in cells])

    def finish(self) -> None:
        """Shows the table, if that is the format."""
        if self._format == "table":
            out.print(self._table)


def _record(answer: Prediction | Failure) -> dict[str, object]:
    if isinstance(answer, Failure):
        return {"image": answer.source, "error": _reason(answer)}
    return {
        "image": answer.source,
        "label": answer.label,
        "probability": answer.probability,
        "top": [{"label": s.label, "index": s.index, "probability": s.probability} for s in answer.top],
    }


def _reason(failure: Failure) -> str:
    what = failure.error.what.removeprefix(f"{failure.source}: ")
    return f"{what} ({failure.error.got})" if failure.error.got else what
