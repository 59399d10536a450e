"""Timings that can be compared: contenders take turns in one run."""

from vitrify.benchmark.comparison import Comparison, RowChange, compare_reports
from vitrify.benchmark.pictures import bench_picture
from vitrify.benchmark.report import (
    BENCH_FORMAT,
    BenchReport,
    LoadCost,
    Machine,
    Roofline,
    Row,
    Stages,
    Timing,
    Verdict,
    read_report,
    write_report,
)
from vitrify.benchmark.running import BenchConfig, bench
from vitrify.benchmark.schema import report_schema
from vitrify.benchmark.verdicts import roofline_of, sentence, timing_of, verdict_of

__all__ = [
    "BENCH_FORMAT",
    "BenchConfig",
    "BenchReport",
    "Comparison",
    "LoadCost",
    "Machine",
    "Roofline",
    "Row",
    "RowChange",
    "Stages",
    "Timing",
    "Verdict",
    "bench",
    "bench_picture",
    "compare_reports",
    "read_report",
    "report_schema",
    "roofline_of",
    "sentence",
    "timing_of",
    "verdict_of",
    "write_report",
]
