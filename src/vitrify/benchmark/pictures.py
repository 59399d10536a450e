"""Latency against throughput, latency against error, and the stages, in one picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrify.benchmark.report import BenchReport, Row
from vitrify.text import for_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP*X"
_STAGES = (
    ("read_ms", "read", "#8c959f"),
    ("preprocess_ms", "decode, resize, normalise", "#1a7f37"),
    ("inference_ms", "inference", "#1f6feb"),
    ("post_ms", "post", "#d9730d"),
)

_WITH_GPU_PIXELS = {
    "preprocess_ms": " (GPU pixels: decode)",
    "inference_ms": " (GPU pixels: copy, resize, inference)",
}


def bench_picture(report: BenchReport, path: str | os.PathLike[str]) -> None:
    """Draws a report.

    Args:
        report: What was measured; rows without times are left out.
        path: A PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The picture cannot be written.
    """
    from vitrify import plots

    names = list(dict.fromkeys(row.name for row in report.rows if row.timing is not None))
    style = {name: (plots.COLOURS[n % len(plots.COLOURS)], _MARKERS[n % len(_MARKERS)]) for n, name in enumerate(names)}
    bars = 0.5 * len(report.stages) + 1.4 if report.stages else 0.0
    figure = plots.empty_figure(12.5, 5.2 + bars)
    panels: Any = figure.subfigures(2, 1, height_ratios=[5.2, bars]) if report.stages else figure
    upper: Any = panels[0] if report.stages else figure
    left, right = upper.subplots(1, 2)
    _throughput(left, report, style)
    _error(right, report, style)
    handles, labels = left.get_legend_handles_labels()
    upper.legend(handles, labels, loc="outside lower center", ncols=min(3, max(1, len(names))), frameon=False)
    if report.stages:
        lower = panels[1].subplots(1, 1)
        _stages(lower, report)
        plots.tidy(lower)
    machine = report.machine
    threads = "threads as each runtime chose" if machine.threads is None else f"{machine.threads} threads"
    where = ", ".join(machine.accelerators) or machine.processor
    plots.tidy(left, right)
    plots.save(figure, Path(path), f"{where}, {machine.cores} cores, {threads}")


def _throughput(axes: Axes, report: BenchReport, style: dict[str, tuple[str, str]]) -> None:
    for name, (colour, marker) in style.items():
        timed = [(row, row.timing) for row in report.rows if row.name == name and row.timing is not None]
        x = [timing.median_ms for _, timing in timed]
        y = [timing.images_per_s for _, timing in timed]
        spread = [
            [timing.median_ms - timing.quartiles_ms[0] for _, timing in timed],
            [timing.quartiles_ms[1] - timing.median_ms for _, timing in timed],
        ]
        axes.errorbar(
            x, y, xerr=spread, color=colour, marker=marker, markersize=6, linewidth=1.4, label=for_picture(name)
        )
        for row, timing in timed:
            axes.annotate(
                f"{row.batch}", (timing.median_ms, timing.images_per_s), xytext=(5, 5), textcoords="offset points",
                fontsize=8, color=colour,
            )  # fmt: skip
    axes.set_xlabel("latency of a batch, ms (median; bars: quartiles)")
    axes.set_ylabel("images a second")
    axes.set_title("latency against throughput; numbers are batch sizes")
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)


def _error(axes: Axes, report: BenchReport, style: dict[str, tuple[str, str]]) -> None:
    smallest = min((row.batch for row in report.rows if row.timing is not None), default=1)
    shown: list[Row] = [row for row in report.rows if row.batch == smallest and row.timing is not None]
    floor = 1e-9  # an exact answer has no place on a logarithmic axis
    for row in shown:
        assert row.timing is not None
        assert row.check is not None
        colour, marker = style[row.name]
        error = max(row.check.max_relative_error, floor)
        axes.plot([row.timing.median_ms], [error], color=colour, marker=marker, markersize=9, linestyle="")
        axes.annotate(
            f"{100 * row.check.top1_agreement:.4g}%", (row.timing.median_ms, error), xytext=(7, 6),
            textcoords="offset points", fontsize=8, color=colour,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.margins(0.15)
    axes.set_xlabel(f"latency, ms, batch {smallest}")
    axes.set_ylabel("largest relative error of a logit")
    axes.set_title("error against latency; percentages are top-1 agreement")


def _stages(axes: Axes, report: BenchReport) -> None:
    names = [for_picture(stage.name) for stage in report.stages]
    starts = [0.0] * len(names)
    on_gpu = any(stage.pixels == "gpu" for stage in report.stages)
    for field, plain, colour in _STAGES:
        label = plain + _WITH_GPU_PIXELS.get(field, "") if on_gpu else plain
        widths = [float(getattr(stage, field)) for stage in report.stages]
        axes.barh(names, widths, left=starts, color=colour, label=label, height=0.6)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for place, (stage, end) in enumerate(zip(report.stages, starts, strict=True)):
        axes.annotate(f"{stage.total_ms:.3g} ms", (end, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.set_xlabel("ms, batch 1")
    axes.set_title(f"from a file to a label: means of the middle half of {report.stages[0].images} images")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
