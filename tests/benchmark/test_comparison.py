"""This run against an earlier one, with numbers that were made up."""

from __future__ import annotations

import dataclasses

import pytest

from vitrify.benchmark import BENCH_FORMAT, BenchReport, Machine, Row, Timing, compare_reports
from vitrify.timing import Peaks

MACHINE = Machine(
    processor="P", cores=2, threads=2, accelerators=(), memory_bytes=1, governor="", frequency_mhz=None,
    load_average=None, system="Linux", versions={"openvino": "1", "vitrify": "1"},
)  # fmt: skip


def row(artifact: str, median: float, speed: float, *, sha: str = "a") -> Row:
    timing = Timing(
        rounds=5, median_ms=median, quartiles_ms=(median, median), p90_ms=median, p99_ms=median,
        images_per_s=1e3 / median, times_as_fast=(speed, speed, speed), compared_to="a.onnx openvino fp32",
    )  # fmt: skip
    return Row(
        artifact=artifact, sha256=sha, size_bytes=1, runtime="openvino", precision="fp32", arithmetic="fp32", batch=1,
        timing=timing,
    )  # fmt: skip


def report(*rows: Row, machine: Machine = MACHINE) -> BenchReport:
    peaks = Peaks(flops_per_s=1, bytes_per_s=1, threads=1)
    return BenchReport(format=BENCH_FORMAT, date="", machine=machine, peaks=peaks, reference="", rows=rows)


def test_ratios_and_what_changed() -> None:
    old = report(row("old/a.onnx", 10, 1), row("old/b.onnx", 5, 2), row("c.onnx", 1, 10))
    machine = dataclasses.replace(MACHINE, threads=1, versions={"openvino": "2", "vitrify": "1"})
    new = report(row("a.onnx", 20, 1), row("b.onnx", 4, 5, sha="z"), row("d.onnx", 1, 10), machine=machine)
    found = compare_reports(new, old)
    a, b = found.rows
    assert found.same_machine
    assert (a.latency, a.relative, a.note) == (2.0, None, "")
    assert b.latency == pytest.approx(0.8)
    assert (b.relative, b.note) == (2.5, "another file")
    assert found.changed == ("threads: 2 -> 1", "openvino: 1 -> 2")
    assert found.only_old == ("c.onnx openvino fp32, batch 1",)
    assert found.only_new == ("d.onnx openvino fp32, batch 1",)


def test_another_machine_gives_ratios_between_contenders_only() -> None:
    old = report(row("a.onnx", 10, 1), row("b.onnx", 5, 2))
    new = report(row("a.onnx", 1, 1), row("b.onnx", 1, 3), machine=dataclasses.replace(MACHINE, processor="Q"))
    found = compare_reports(new, old)
    assert not found.same_machine
    assert [change.latency for change in found.rows] == [None, None]
    assert [change.relative for change in found.rows] == [None, 1.5]
    assert "processor: P -> Q" in found.changed


def test_rows_without_times() -> None:
    old = report(row("a.onnx", 10, 1), row("b.onnx", 5, 2))
    failed = dataclasses.replace(row("b.onnx", 5, 2), timing=None, problem="x")
    change = compare_reports(report(row("a.onnx", 10, 1), failed), old).rows[1]
    assert (change.latency, change.relative, change.note) == (None, None, "no times now")
