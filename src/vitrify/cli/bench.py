from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vitrify.cli.console import TerminalProgress, err, out, print_json
from vitrify.cli.options import JsonFlag, require_picture


def bench(
    artifacts: Annotated[tuple[Path, ...], Parameter(negative="")],
    /,
    *,
    images: tuple[str, ...] = (),
    reference: Path | None = None,
    batch: tuple[int, ...] = (1, 8),
    threads: int | None = None,
    runtime: tuple[str, ...] = ("all",),
    precision: tuple[Literal["all", "fp32", "bf16", "fp16"], ...] = ("all",),
    max_images: int = 100,
    rounds: int = 30,
    budget: float = 30.0,
    compare: Path | None = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    plot: Path | None = None,
    json: JsonFlag = False,
) -> int:
    """Say which artifact to deploy: latency, throughput, error, memory and file size, side by side.

    Each artifact runs in each runtime and precision that it can, and all take turns in one run. What does not give the
    reference's answers is shown without times, and the exit code is 1.

    Example: `vitrify bench flowers.onnx flowers.int8.onnx --images flowers/val --plot bench.png`

    Example: `vitrify bench flowers.onnx --batch 1 4 16 --threads 2 --output new.json --compare old.json`

    Args:
        artifacts: ONNX files, engines or checkpoints of one model. Ratios are to the first.
        images: Compare answers on these, and time the whole pipeline from file to label: files, folders or globs.
        reference: The fp32 artifact or checkpoint whose answers are the truth; by default the first fp32 artifact
            named, else the golden vectors that each artifact carries.
        batch: Images in one call; each size is a race of its own.
        threads: Of each runtime; by default what it chooses.
        runtime: all that are installed, or some by name.
        precision: all that a runtime has here, or some by name.
        max_images: Compare answers on at most this many images, evenly spread.
        rounds: Timed calls of each contender at each batch size, at most.
        budget: Seconds after which no further round of a batch size begins, once there were five.
        compare: An earlier --output to print ratios against. Across machines, only ratios between contenders.
        output: Write everything as JSON here.
        plot: Draw latency, throughput, error and stages as a picture, PNG.
        json: Print the report as JSON on stdout.
    """
    from vitrify.bench import BenchConfig, bench_picture, compare_reports, read_report, write_report
    from vitrify.bench import bench as run_bench
    from vitrify.classifier import expand_sources
    from vitrify.cli.bench_tables import bench_tables, comparison_tables
    from vitrify.errors import OptionError

    require_picture(plot, "the picture")
    if "-" in images:
        raise OptionError("bench reads no standard input", expected="--images with files, folders or globs")
    earlier = read_report(compare) if compare is not None else None
    config = BenchConfig(
        batches=batch,
        runtimes=runtime,
        precisions=precision,
        threads=threads,
        reference=reference,
        max_images=max_images,
        rounds=rounds,
        budget_s=budget,
    )
    report = run_bench(
        artifacts,
        images=[Path(str(name)) for name in expand_sources(images)],
        config=config,
        progress=TerminalProgress(),
    )
    comparison = compare_reports(report, earlier) if earlier is not None else None
    if json:
        print_json(report if comparison is None else {"report": report, "comparison": comparison})
    else:
        for shown in bench_tables(report):
            out.print(shown)
        for shown in comparison_tables(comparison, str(compare)) if comparison else ():
            out.print(shown)
        out.print(f"{report.verdict}.", style="bold")
    if output is not None:
        write_report(report, output)
        err.print(f"wrote {output}")
    if plot is not None:
        bench_picture(report, plot)
        err.print(f"wrote {plot}")
    return 0 if report.passed else 1
