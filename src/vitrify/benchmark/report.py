"""What `vitrify bench` measured, as it stands in its JSON file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitrify.errors import ArtifactError
from vitrify.files import atomic_write
from vitrify.spec import Check, Precision, Result, encode
from vitrify.spec.codec import decode
from vitrify.timing import Peaks

BENCH_FORMAT = 2
"""Of the JSON file; raised when a field changes its meaning."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a report was made.

    Attributes:
        processor: As the operating system names it.
        cores: That the process may use.
        threads: Inside one inference; None where each runtime chose.
        accelerators: What open models ran on, where that is not the processor.
        memory_bytes: Of the machine, 0 where it does not tell.
        governor: Of the processor's clock, empty where it cannot be read.
        frequency_mhz: Of the processor's first core when the run began; None where it cannot be read.
        load_average: Of the last minute when the run began: processes that wanted a core.
        system: Operating system and its release.
        versions: Of vitrify, Python, NumPy and every runtime that took part.
    """

    processor: str
    cores: int
    threads: int | None
    accelerators: tuple[str, ...]
    memory_bytes: int
    governor: str
    frequency_mhz: float | None
    load_average: float | None
    system: str
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class LoadCost:
    """What a process of its own needed for one contender: nothing of another one is in these numbers.

    Attributes:
        load_ms: From the path to an open model; libraries were imported before.
        first_inference_ms: The first batch, which allocates and may compile.
        base_bytes: Resident memory after the libraries were imported, before the model was opened.
        peak_bytes: Largest resident memory of the process, three inferences included.
        device_bytes: Most memory of the GPU that the model was seen to hold after it was opened and after each of three
            inferences, without the process's CUDA context; None where it runs on the processor. What other processes
            take meanwhile is in it.
    """

    load_ms: float
    first_inference_ms: float
    base_bytes: int
    peak_bytes: int
    device_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long one batch took.

    Attributes:
        rounds: Timed calls, in turns with the other contenders of the batch.
        median_ms: p50.
        quartiles_ms: First and third quartile: the spread.
        p90_ms: Nine of ten calls were no slower.
        p99_ms: Close to the slowest call where there were fewer than a hundred.
        images_per_s: `batch / median`, one call at a time.
        times_as_fast: As the row named in `compared_to`: first quartile, median and third quartile of the ratio within
            each round.
        compared_to: The first row of the batch that was timed.
    """

    rounds: int
    median_ms: float
    quartiles_ms: tuple[float, float]
    p90_ms: float
    p99_ms: float
    images_per_s: float
    times_as_fast: tuple[float, float, float]
    compared_to: str


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """How close a row came to what the processor can do, at its median.

    Attributes:
        flops: Of the batch: matrix products and convolutions.
        bytes: The least that has to move: weights as the file stores them, once, and the batch's inputs and outputs.
        of_peak_flops: Share of the measured fp32 peak; bf16 and int8 rows can exceed 1.
        of_peak_bandwidth: Share of the measured bandwidth that the least traffic needs.
        of_roofline: The larger of both, which is the least possible time over the median.
    """

    flops: int
    bytes: int
    of_peak_flops: float
    of_peak_bandwidth: float
    of_roofline: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One artifact in one runtime and precision, at one batch size.

    Attributes:
        artifact: The file, as it was named.
        sha256: Of the file; empty for a folder.
        size_bytes: Of the file, a folder's files added up.
        runtime: Registry name.
        precision: That the runtime was asked for.
        arithmetic: What its matrix products are computed in: the graph's own types where those are of 8 bits or the
            runtime was asked for fp32. Empty if it did not load.
        around: What the runtime was asked to compute the rest of an 8-bit graph in; empty: the graph's own.
        batch: Images in one call.
        problem: Why there are no times; empty where there are.
        compared_with: Whose answers `check` compares with.
        check: The errors; None where it did not come to that.
        load: None where it did not load.
        timing: None where the gate did not hold.
        roofline: None where the graph cannot be read, or where an accelerator ran it.
    """

    artifact: str
    sha256: str
    size_bytes: int
    runtime: str
    precision: Precision
    arithmetic: Precision | Literal[""]
    batch: int
    around: Precision | Literal[""] = ""
    problem: str = ""
    compared_with: str = ""
    check: Check | None = None
    load: LoadCost | None = None
    timing: Timing | None = None
    roofline: Roofline | None = None

    @property
    def name(self) -> str:
        """File name, runtime and precision: the same contender at every batch."""
        return contender_name(self.artifact, self.runtime, self.precision)


@dataclass(frozen=True, kw_only=True)
class Stages:
    """From a file to a label at batch 1, in milliseconds.

    Means over the middle half of the images, by what all stages took together: what held one image up is left out, as
    of a median, and the stages add up to their total, as medians do not.

    Attributes:
        name: The contender.
        images: Timed files, of which the middle half counts.
        read_ms: The file's bytes.
        pixels: Where images are resized, cropped and normalised: `cpu`, or `gpu` where the runtime prepares them.
        preprocess_ms: On the CPU decoding, resizing, cropping and normalising, which the native core does in one pass;
            with the GPU's pixels decoding alone.
        decode_alone_ms: Decoding every pixel of the file without the rest, median. No part of the sum: the fused pass
            does not decode what the crop drops.
        inference_ms: Tensor to logits; with the GPU's pixels decoded pixels to logits: copy, resize, inference.
        post_ms: Logits to the best labels.
        total_ms: The sum of the four stages.
    """

    name: str
    images: int
    pixels: Literal["cpu", "gpu"] = "cpu"
    read_ms: float
    preprocess_ms: float
    decode_alone_ms: float
    inference_ms: float
    post_ms: float
    total_ms: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Which contender is fastest at one batch size.

    Attributes:
        batch: Images in one call.
        fastest: Its name.
        than: What it stands beside: the first contender that was timed; where that is the fastest, the next.
        times_as_fast: First quartile, median and third quartile of the ratio within each round.
        rounds: Timed calls of each.
        faster_rounds: Those in which `fastest` was faster.
        chance: How seldom two that are equally fast differ in as many rounds: a sign test, two-sided.
        told: Whether that is at most 1%; if not, this run cannot tell which is faster.
        ties: Further contenders that this run cannot tell from `fastest`.
    """

    batch: int
    fastest: str
    than: str
    times_as_fast: tuple[float, float, float]
    rounds: int
    faster_rounds: int
    chance: float
    told: bool
    ties: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BenchReport(Result):
    """Everything that one run measured.

    Attributes:
        format: `BENCH_FORMAT`.
        date: UTC, ISO 8601.
        machine: Where.
        peaks: What the processor reached.
        reference: Whose answers the rows were compared with.
        rows: In the order in which contenders were named, batch by batch.
        stages: Empty without images.
        notes: What a reader has to know.
        verdicts: One for each batch size at which two contenders or more were timed.
        verdict: The same in a sentence; says so where there was nothing to compare.
    """

    format: int
    date: str
    machine: Machine
    peaks: Peaks
    reference: str
    rows: tuple[Row, ...]
    stages: tuple[Stages, ...] = ()
    notes: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    verdict: str = ""

    @property
    def passed(self) -> bool:
        """Whether every row was timed."""
        return all(row.timing is not None for row in self.rows)


def contender_name(artifact: str | os.PathLike[str], runtime: str, precision: str) -> str:
    """What a contender is called, whatever its folder."""
    return f"{Path(artifact).name} {runtime} {precision}"


def arithmetic_of(graph: Precision, asked: Precision) -> tuple[Precision, Precision | Literal[""]]:
    """`Row.arithmetic` and `Row.around` of a graph of one precision in a runtime that was asked for another."""
    eight_bits = graph in ("int8", "fp8")
    if asked == "fp32":  # which keeps to the graph's own types
        return graph, ""
    return (graph, asked) if eight_bits else (asked, "")


def write_report(report: BenchReport, path: str | os.PathLike[str]) -> None:
    """Writes a report as JSON, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    atomic_write(path, json.dumps(encode(report), ensure_ascii=False, allow_nan=False, indent=1) + "\n")


def read_report(path: str | os.PathLike[str]) -> BenchReport:
    """Reads what `write_report` wrote.

    Raises:
        ArtifactError: No such file, or no report of this format.
        SpecError: A field that is missing, unknown or of another type.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{os.fspath(path)} is no report of vitrify bench", got=error, hint="vitrify bench ARTIFACT... --output it"
        ) from error
    if not isinstance(data, dict) or data.get("format") != BENCH_FORMAT:
        raise ArtifactError(
            f"{os.fspath(path)} is no report that this vitrify reads",
            got=f"format {data.get('format')!r}" if isinstance(data, dict) else "no object",
            expected=f"format {BENCH_FORMAT}",
        )
    return decode(BenchReport, data, root="bench report")
