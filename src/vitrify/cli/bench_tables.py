"""What `vitrify bench` measured, as tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from vitrify.cli.tables import table

if TYPE_CHECKING:
    from rich.table import Table

    from vitrify.benchmark import BenchReport, Comparison, Row

_MB = 1e6


def bench_tables(report: BenchReport) -> Iterator[RenderableType]:
    """A race a batch size, what loading costs, the stages, and where all that was."""
    places = {name: place for place, name in enumerate(dict.fromkeys(row.name for row in report.rows), 1)}
    yield _contenders(report, places)
    for batch in dict.fromkeys(row.batch for row in report.rows):
        rows = [row for row in report.rows if row.batch == batch]
        yield _race(rows, batch, places)
        for row in rows:
            if row.problem:
                yield Text(f"#{places[row.name]} {row.name}: {row.problem}", style="bold red")
    yield _costs(report, places)
    if report.stages:
        yield _stages(report, places)
    machine, peaks = report.machine, report.peaks
    threads = "threads as each runtime chose" if machine.threads is None else f"{machine.threads} threads"
    clock = ", ".join(
        filter(None, (machine.governor, f"{machine.frequency_mhz:.0f} MHz" if machine.frequency_mhz else ""))
    )
    yield Text(f"compared with {report.reference}")
    yield Text(
        f"{', '.join((*machine.accelerators, machine.processor))}, {machine.cores} cores, {threads}"
        + (f", {clock}" if clock else "")
        + (f", load {machine.load_average:g}" if machine.load_average is not None else "")
    )
    yield Text(
        f"measured peaks, {peaks.threads} threads: {peaks.flops_per_s / 1e9:.0f} GFLOP/s in fp32, "
        f"{peaks.bytes_per_s / 1e9:.1f} GB/s"
    )
    yield Text(", ".join(f"{name} {version}" for name, version in machine.versions.items()), style="dim")
    for note in report.notes:
        yield Text(f"note: {note}")


def _race(rows: list[Row], batch: int, places: dict[str, int]) -> Table:
    first = next((places[row.timing.compared_to] for row in rows if row.timing is not None), 1)
    ratio = f"x as #{first}"
    numbers = ("#", "ms", "quartiles", "p90", "p99", "images/s", ratio, "error", "top-1")
    made = table(*numbers, title=f"batch {batch}", right=numbers)
    for row in rows:
        timing, check = row.timing, row.check
        times = ("", "", "", "", "", "")
        if timing is not None:
            low, middle, high = timing.times_as_fast
            times = (
                _number(timing.median_ms),
                "-".join(map(_number, timing.quartiles_ms)),
                _number(timing.p90_ms),
                _number(timing.p99_ms),
                _number(timing.images_per_s),
                "1" if timing.compared_to == row.name else f"{middle:.2f} ({low:.2f}-{high:.2f})",
            )
        errors = (f"{check.max_relative_error:.1g}", f"{100 * check.top1_agreement:.4g}%") if check else ("", "")
        made.add_row(str(places[row.name]), *times, *errors)
    return made


def _number(value: float) -> str:
    """Three digits, or all of those before the point: never `3.02e+03`."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _contenders(report: BenchReport, places: dict[str, int]) -> Table:
    made = table("#", "artifact", "runtime", "asked", "computes in", "file MB", right=("#", "file MB"))
    for name, place in places.items():
        row = next(row for row in report.rows if row.name == name)
        size = f"{row.size_bytes / _MB:.1f}"
        computes = row.arithmetic + (f", {row.around} around" if row.around else "")
        made.add_row(str(place), row.artifact, row.runtime, row.precision, computes, size)
    return made


def _costs(report: BenchReport, places: dict[str, int]) -> Table:
    numbers: tuple[str, ...]
    numbers = ("#", "batch", "load ms", "first ms", "peak MB", "libs MB", "GPU MB", "of fp32 peak", "of GB/s")
    if not (on_gpu := any(row.load is not None and row.load.device_bytes is not None for row in report.rows)):
        numbers = tuple(name for name in numbers if name != "GPU MB")
    made = table(*numbers, title="memory and loading, each in a process of its own; shares of peaks", right=numbers)
    for row in report.rows:
        load, roof = row.load, row.roofline
        cells: tuple[str, ...] = ("",) * (5 if on_gpu else 4)
        if load is not None:
            cells = (
                f"{load.load_ms:.0f}",
                _number(load.first_inference_ms),
                f"{load.peak_bytes / _MB:.0f}",
                f"{load.base_bytes / _MB:.0f}",
                *([f"{load.device_bytes / _MB:.0f}" if load.device_bytes is not None else ""] if on_gpu else []),
            )
        shares = (f"{roof.of_peak_flops:.0%}", f"{roof.of_peak_bandwidth:.0%}") if roof else ("", "")
        made.add_row(str(places[row.name]), str(row.batch), *cells, *shares)
    return made


def _stages(report: BenchReport, places: dict[str, int]) -> Table:
    numbers = ("#", "pixels", "read", "preprocess", "(decode alone)", "inference", "post", "total")
    title = f"from a file to a label, ms, batch 1, means of the middle half of {report.stages[0].images} images"
    made = table(*numbers, title=title, right=numbers)
    for row in report.stages:
        values = (row.read_ms, row.preprocess_ms, row.decode_alone_ms, row.inference_ms, row.post_ms, row.total_ms)
        cells = [_number(value) for value in values]
        cells[2] = f"({cells[2]})"
        made.add_row(str(places[row.name]), row.pixels.upper(), *cells)
    return made


def comparison_tables(comparison: Comparison, earlier: str) -> Iterator[RenderableType]:
    """What changed against an earlier run."""
    numbers = ("batch", "latency", "times as fast")
    made = table("contender", *numbers, "", title=f"now over {earlier}", right=numbers)
    for row in comparison.rows:
        latency, relative = (f"{n:.2f}x" if n is not None else "" for n in (row.latency, row.relative))
        made.add_row(row.name, str(row.batch), latency, relative, row.note)
    yield made
    if not comparison.same_machine:
        yield Text(
            "another machine: absolute times are not compared, only how contenders stand to the first row", style="bold"
        )
    for line in comparison.changed:
        yield Text(f"changed: {line}")
    for words, names in (("only before", comparison.only_old), ("only now", comparison.only_new)):
        for name in names:
            yield Text(f"{words}: {name}")
