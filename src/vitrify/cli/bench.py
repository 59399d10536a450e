from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitrify import api
from vitrify.cli.from_function import OUTPUT, Run, command_of
from vitrify.cli.options import JsonFlag
from vitrify.console import out, print_json

if TYPE_CHECKING:
    from vitrify.benchmark import BenchReport


@command_of(
    api.bench,
    artifacts=Annotated[tuple[Path, ...], Parameter(negative="")],
    precision=tuple[Literal["all", "fp32", "bf16", "fp16", "fp8"], ...],
    output=OUTPUT,
)
def bench(run: Run[BenchReport], *, compare: Path | None = None, json: JsonFlag = False) -> int:
    """Say which artifact to deploy: latency, throughput, error, memory and file size, side by side.

    Each artifact runs in each runtime and precision that it can, and all take turns in one run. What does not give the
    reference's answers is shown without times, and the exit code is 1.

    Example: `vitrify bench flowers.onnx flowers.int8.onnx --images flowers/val --plot bench.png`

    Example: `vitrify bench flowers.onnx --batch 1 4 16 --threads 2 --output new.json --compare old.json`

    Args:
        compare: An earlier --output to print ratios against. Across machines, only ratios between contenders.
        json: Print the report as JSON on stdout.
    """
    from vitrify.benchmark import compare_reports, read_report
    from vitrify.cli.bench_tables import bench_tables, comparison_tables

    earlier = read_report(compare) if compare is not None else None
    report = run()
    comparison = compare_reports(report, earlier) if earlier is not None else None
    if json:
        print_json(report if comparison is None else {"report": report, "comparison": comparison})
    else:
        for shown in bench_tables(report):
            out.print(shown)
        for shown in comparison_tables(comparison, str(compare)) if comparison else ():
            out.print(shown)
        out.print(f"{report.verdict}.", style="bold")
    return 0 if report.passed else 1
