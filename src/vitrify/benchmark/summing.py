"""Turns and peaks to the numbers of a row."""

from __future__ import annotations

from vitrify.benchmark.report import Roofline, Timing
from vitrify.graphs import GraphCost
from vitrify.timing import Peaks, Turns


def timing_of(turns: Turns, name: str, *, batch: int, first: str) -> Timing:
    """Adds up what a contender's turns measured; `first` is what its ratio is to."""
    median = turns.median_ms(name)
    return Timing(
        rounds=len(turns.seconds[name]),
        median_ms=median,
        quartiles_ms=(turns.percentile_ms(name, 25), turns.percentile_ms(name, 75)),
        p90_ms=turns.percentile_ms(name, 90),
        p99_ms=turns.percentile_ms(name, 99),
        images_per_s=1e3 * batch / median,
        times_as_fast=turns.speedup(name, first),
        compared_to=first,
    )


def roofline_of(cost: GraphCost, peaks: Peaks, *, batch: int, seconds: float) -> Roofline:
    """Shares of the measured peaks that a batch of `batch` images in `seconds` comes to."""
    flops, moved = batch * cost.flops, cost.weight_bytes + batch * cost.io_bytes
    of_flops, of_bytes = flops / seconds / peaks.flops_per_s, moved / seconds / peaks.bytes_per_s
    return Roofline(
        flops=flops,
        bytes=moved,
        of_peak_flops=of_flops,
        of_peak_bandwidth=of_bytes,
        of_roofline=max(of_flops, of_bytes),
    )
