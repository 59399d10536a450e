"""One run: load each contender, check its answers, time those that hold, in turns."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import Artifact
from vitrify.benchmark.answers import Reference, check_answers, find_reference, golden_reference
from vitrify.benchmark.contenders import Contender, find_contenders
from vitrify.benchmark.loading import measure_load
from vitrify.benchmark.machine import this_machine
from vitrify.benchmark.report import BENCH_FORMAT, BenchReport, Row, Stages, Verdict, arithmetic_of
from vitrify.benchmark.stages import STAGE_IMAGES, time_stages, wrongly_prepared
from vitrify.benchmark.verdicts import roofline_of, sentence, timing_of, verdict_of
from vitrify.classifier import pick_evenly
from vitrify.cuda import gpu_or_none
from vitrify.errors import ArtifactError, ImageError, OptionError, VitrifyError
from vitrify.graphs import GraphCost, graph_cost
from vitrify.machine import available_threads
from vitrify.pixels import preprocess
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import Runtime, check_outputs, infer_logits, open_runtime, preparer
from vitrify.spec import ModelSpec, golden_recipe_batch
from vitrify.timing import GPU_SETTLING_S, Peaks, measure_peaks, take_turns
from vitrify.verification import describe


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is timed, and how.

    Attributes:
        batches: Images in one call.
        runtimes: `all`, or names.
        precisions: `all` that a runtime has here, or names.
        threads: Of each runtime and of preprocessing; None lets each choose.
        reference: The fp32 artifact whose answers are the truth.
        max_images: Answers are compared on at most so many images, evenly spread.
        rounds: Timed calls of each contender, at most.
        budget_s: After this time no further round of a batch begins, once there were five.
    """

    batches: tuple[int, ...] = (1, 8)
    runtimes: tuple[str, ...] = ("all",)
    precisions: tuple[str, ...] = ("all",)
    threads: int | None = None
    reference: Path | None = None
    max_images: int = 100
    rounds: int = 30
    budget_s: float = 30.0

    def __post_init__(self) -> None:
        counts = [*self.batches, self.max_images, self.rounds, *([] if self.threads is None else [self.threads])]
        if not self.batches or min(counts) < 1 or not self.budget_s > 0:
            raise OptionError(
                "batches, images, rounds, threads and the budget are positive",
                got=", ".join(map(str, [*counts, self.budget_s])),
                expected="1 or more",
            )
        if len(set(self.batches)) < len(self.batches):
            raise OptionError("a batch size is named twice", got=" ".join(map(str, self.batches)))


def bench(
    artifacts: Sequence[Path],
    *,
    images: Sequence[Path] = (),
    config: BenchConfig | None = None,
    progress: Progress = SILENT,
) -> BenchReport:
    """Says how fast each way to run a model is, and how far its answers are from the reference's.

    Args:
        artifacts: Of one model.
        images: Real images to compare on and to time the whole pipeline with.
        config: What else is asked for.
        progress: Told of each step.

    Raises:
        OptionError: Options that contradict each other or the artifacts, artifacts of different models, no readable
            image.
        ArtifactError: A file that is not there, or that no runtime runs.
    """
    config = config or BenchConfig()
    contenders = find_contenders(artifacts, config.runtimes, config.precisions)
    run = _Run(config, progress)
    readable, tensors = run.read_images(contenders, images)
    machine = this_machine(threads=config.threads)
    peaks = measure_peaks(config.threads or available_threads())
    reference = find_reference(contenders, config.reference, tensors, threads=config.threads, progress=progress)
    with contextlib.ExitStack() as stack:
        rows = run.rows(contenders, reference, peaks, stack)
        passed = {row.name for row in rows} - {row.name for row in rows if row.timing is None}
        finished = {name: runtime for name, runtime in run.opened.items() if name in passed}
        stages = run.stages(finished, pick_evenly(readable, STAGE_IMAGES))
        versions = dict(reference.versions) if reference else {}
        for runtime in run.opened.values():
            versions |= runtime.versions()
        accelerators = tuple(dict.fromkeys(r.hardware for r in run.opened.values() if r.hardware))
        if accelerators and (gpu := gpu_or_none()):
            versions["CUDA of the driver"] = gpu.driver
        machine = dataclasses.replace(
            machine,
            accelerators=accelerators,
            versions=machine.versions | versions,
        )
    return BenchReport(
        format=BENCH_FORMAT,
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine=machine,
        peaks=peaks,
        reference=reference.name if reference else "each artifact's golden vectors",
        rows=tuple(rows),
        stages=stages,
        notes=tuple(run.notes),
        verdicts=tuple(run.verdicts),
        verdict=sentence(run.verdicts) or f"nothing to compare: {len(passed)} of the contenders has times",
    )


class _Run:
    """What one run has opened and found so far."""

    def __init__(self, config: BenchConfig, progress: Progress) -> None:
        self.config, self.progress = config, progress
        self.opened: dict[str, Runtime] = {}
        self.notes: list[str] = []
        self.verdicts: list[Verdict] = []
        self._costs: dict[Path, GraphCost | None] = {}

    def read_images(
        self, contenders: Sequence[Contender], images: Sequence[Path]
    ) -> tuple[list[Path], npt.NDArray[np.float32] | None]:
        """Prepares the images once; those that cannot be read are left out, and that is noted."""
        spec = next((contender.spec for contender in contenders if contender.spec is not None), None)
        if not images:
            return [], None
        if spec is None:
            self.notes.append("no artifact tells its preprocessing before it is open: images were not used")
            return [], None
        chosen = pick_evenly(images, self.config.max_images)
        readable, tensors, last = [], [], ""
        for path in self.progress.track(chosen, label="reading images"):
            try:
                tensors.append(preprocess([path], spec.preprocess))
                readable.append(path)
            except ImageError as error:
                last = error.what
        if not readable:
            raise OptionError(
                "none of the images can be read", got=last, hint="name readable images, or leave --images out"
            )
        if len(readable) < len(chosen):
            self.notes.append(f"{len(chosen) - len(readable)} of {len(chosen)} images cannot be read: {last}")
        return readable, np.concatenate(tensors)

    def rows(
        self,
        contenders: Sequence[Contender],
        reference: Reference | None,
        peaks: Peaks,
        stack: contextlib.ExitStack,
    ) -> list[Row]:
        """Loads, checks and times everything."""
        found: list[Row] = []
        for batch in self.config.batches:
            rows = []
            for contender in self.progress.track(contenders, label=f"loading and checking, batch {batch}"):
                row = Row(
                    artifact=str(contender.path),
                    sha256=contender.artifact.sha256 if contender.artifact else "",
                    size_bytes=contender.artifact.size_bytes if contender.artifact else contender.path.stat().st_size,
                    runtime=contender.row.name,
                    precision=contender.precision,
                    arithmetic="",
                    batch=batch,
                )
                rows.append(self._checked(row, contender, reference, stack))
            found += self._timed(rows, contenders, reference, peaks)
        return found

    def _checked(self, row: Row, contender: Contender, reference: Reference | None, stack: contextlib.ExitStack) -> Row:
        try:
            like = contender.spec or (_like(reference.path) if reference else None)
            # First in a process of its own: what crashes there does not take the others along.
            load = measure_load(
                contender.path, contender.row, contender.precision,
                batch=row.batch, threads=self.config.threads, like=like,
            )  # fmt: skip
            row = dataclasses.replace(row, load=load)
            if contender.name not in self.opened:
                options = contender.row.understood(threads=self.config.threads, like=like)
                runtime = open_runtime(contender.path, contender.row.name, precision=contender.precision, **options)
                opened = stack.enter_context(runtime)
                check_outputs(opened, opened.spec)
                self.opened[contender.name] = opened
            runtime = self.opened[contender.name]
        except VitrifyError as error:
            return dataclasses.replace(row, problem=_problem(error))
        spec = runtime.spec
        first = next(iter(self.opened.values()))
        first.artifact.require_same_model(runtime.artifact, spec=first.spec, other_spec=spec)
        arithmetic, around = arithmetic_of(spec.precision, contender.precision)
        row = dataclasses.replace(row, arithmetic=arithmetic, around=around)
        truth = golden_reference(spec) if reference is None or reference.is_itself(contender) else reference
        if truth is None and reference is None:
            return dataclasses.replace(row, problem="nothing to compare it with: name --reference")
        truth, itself = truth or reference, truth is None
        assert truth is not None
        try:
            check = check_answers(contender, runtime, truth, batch=row.batch, progress=self.progress)
        except VitrifyError as error:
            return dataclasses.replace(row, problem=_problem(error))
        return dataclasses.replace(
            row,
            check=check,
            compared_with="itself: it is the reference" if itself else truth.name,
            problem="" if check.passed else f"its gate does not hold: {describe(check)}",
        )

    def _timed(
        self, rows: list[Row], contenders: Sequence[Contender], reference: Reference | None, peaks: Peaks
    ) -> list[Row]:
        calls: dict[str, Callable[[], object]] = {}
        for row in rows:
            if not row.problem:
                calls[row.name] = _call(self.opened[row.name], row.batch, reference)
        if not calls:
            return rows
        turns = take_turns(
            calls,
            rounds=self.config.rounds,
            budget_s=self.config.budget_s,
            settling_calls=1,
            settling_s=GPU_SETTLING_S,
            progress=self.progress,
            label=f"timing, batch {rows[0].batch}",
        )
        if (verdict := verdict_of(turns, batch=rows[0].batch)) is not None:
            self.verdicts.append(verdict)
        first = next(iter(calls))
        timed = []
        for row, contender in zip(rows, contenders, strict=True):
            if row.problem:
                timed.append(row)
                continue
            timing = timing_of(turns, row.name, batch=row.batch, first=first)
            cost = None if self.opened[row.name].hardware else self._cost(contender.path)
            roofline = roofline_of(cost, peaks, batch=row.batch, seconds=timing.median_ms / 1e3) if cost else None
            timed.append(dataclasses.replace(row, timing=timing, roofline=roofline))
        return timed

    def stages(self, finished: Mapping[str, Runtime], images: Sequence[Path]) -> tuple[Stages, ...]:
        """The stages of what gave the right answers, also for images that its runtime prepares."""
        if not images:
            return ()
        right = dict(finished)
        for name, runtime in finished.items():
            # Each image, as one that the GPU does not take would end the report of all that was measured.
            wrong = (wrongly_prepared(runtime, image) for image in images) if preparer(runtime) else ()
            if found := next(filter(None, wrong), ""):
                del right[name]
                self.notes.append(f"no stages of {name}: {found}")
        return time_stages(right, images, threads=self.config.threads, progress=self.progress)

    def _cost(self, path: Path) -> GraphCost | None:
        if path not in self._costs:
            self._costs[path] = None
            if path.suffix == ".onnx":
                with contextlib.suppress(ArtifactError):
                    self._costs[path] = graph_cost(path)
        return self._costs[path]


def _call(runtime: Runtime, batch: int, reference: Reference | None) -> Callable[[], object]:
    spec = runtime.spec
    tensors = reference.tensors if reference else golden_recipe_batch(spec.input_shape)
    given = tensors[np.arange(batch) % len(tensors)]
    return lambda: infer_logits(runtime, spec, given)


def _like(path: Path | None) -> ModelSpec | None:
    if path is None:
        return None
    with contextlib.suppress(VitrifyError):
        return Artifact.open(path).spec
    return None


def _problem(error: VitrifyError) -> str:
    return error.what + (f" ({error.got})" if error.got not in (None, "") else "")
