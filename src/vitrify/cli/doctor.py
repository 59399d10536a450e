from __future__ import annotations

from rich.text import Text

from vitrify.cli.options import JsonFlag
from vitrify.cli.tables import table
from vitrify.console import out, print_json

_STYLES = {"ok": "green", "missing": "yellow", "broken": "bold red"}


def doctor(*, json: JsonFlag = False) -> int:
    """Look at this machine: processor, packages, and whether each runtime gives a right answer.

    Exits with 1 when something that should work does not. A missing extra is not an error.

    Example: `vitrify doctor`

    Args:
        json: Print the findings as JSON on stdout.
    """
    from vitrify.inspection import diagnose

    findings = diagnose()
    if json:
        print_json(findings)
    else:
        rows = table("", "", "", "")
        rows.show_header = False
        for finding in findings:
            rows.add_row(finding.name, Text(finding.state, style=_STYLES[finding.state]), finding.detail, finding.hint)
        out.print(rows)
    return 1 if any(finding.state == "broken" for finding in findings) else 0
