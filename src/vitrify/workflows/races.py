"""Is a file faster than what is there already? Timed in turns, in one runtime; engines on their own GPU."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import ENGINE_SUFFIXES, Artifact, BuildConfig, Gpu, Race
from vitrify.errors import GateError, OptionError
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import open_runtime
from vitrify.spec import ModelSpec, Precision
from vitrify.tensorrt import TensorRt, require_fit
from vitrify.timing import GPU_SETTLING_S, LEAST_ROUNDS, SETTLING_CALLS, Speed, Turns, take_turns
from vitrify.verification import infer_with

MIN_SPEEDUP = 1.05
"""What `vitrify quantize`, and `vitrify build` with `--faster-than`, ask for by themselves."""


def require_speedup(least: float) -> None:
    """Refuses a least speedup that a slower file would have.

    Raises:
        OptionError: It is below 1.
    """
    if not least >= 1:
        raise OptionError("a speedup below 1 is none", got=least, expected="1 or more")


def time_files(
    contenders: Mapping[str, tuple[Path, Precision]],
    *,
    runtime: str,
    tensors: npt.NDArray[np.float32],
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Turns:
    """Times files in turns.

    Args:
        contenders: For each name a file, and the precision that the runtime is asked for.
        runtime: Its name.
        tensors: The batch that is inferred, `[B, 3, H, W]` float32.
        threads: Of the runtime.
        progress: Told of each round.

    Raises:
        RuntimeFailureError: The runtime refuses one.
    """
    with ExitStack() as stack:
        calls = {}
        for name, (path, asked) in contenders.items():
            opened = stack.enter_context(open_runtime(path, runtime, precision=asked, threads=threads))
            infer = infer_with(opened, opened.spec)
            calls[name] = lambda infer=infer: infer(tensors)
        return take_turns(
            calls,
            least_rounds=LEAST_ROUNDS,
            settling_calls=SETTLING_CALLS,
            settling_s=GPU_SETTLING_S if runtime == "tensorrt" else 0.0,
            progress=progress,
        )


@dataclass(frozen=True, kw_only=True)
class Rival:
    """What a new engine has to outrun.

    Attributes:
        path: An engine of the same model, for this GPU.
        min_speedup: Least speedup over it, at every batch size that both are raced at.
    """

    path: Path
    min_speedup: float = MIN_SPEEDUP

    def __post_init__(self) -> None:
        require_speedup(self.min_speedup)

    def require_comparable(self, batches: tuple[int, ...], onnx: Artifact, trt: TensorRt, gpu: Gpu) -> None:
        """Says what stands in the way of a race before anything is built.

        Args:
            batches: Those that the new engine is tuned for.
            onnx: What the new engine is built from.
            trt: The TensorRT that runs both.
            gpu: The GPU that is here.

        Raises:
            OptionError: No engine, another model, or a batch size that it does not take.
            EngineError: Its manifest is missing, its plan is another one, or it does not run here.
        """
        if self.path.suffix not in ENGINE_SUFFIXES:
            raise OptionError(
                f"cannot race {self.path}", expected="an engine, .engine or .plan", hint="vitrify build makes one"
            )
        artifact = Artifact.open(self.path)
        manifest = artifact.manifest
        onnx.require_same_model(artifact)
        profiles = manifest.config.profiles
        missing = [batch for batch in batches if not any(batch in profile for profile in profiles)]
        if missing:
            raise OptionError(
                f"{self.path} does not take every batch size that the new engine is tuned for",
                got=", ".join(map(str, profiles)),
                expected=", ".join(map(str, missing)),
                hint="name an engine with such profiles, or build one engine for each batch size",
            )
        require_fit(self.path, manifest, trt, gpu)
        artifact.require_intact()


def batches_to_race(
    rival: Rival | None, config: BuildConfig, onnx: Artifact, trt: TensorRt, gpu: Gpu | None
) -> tuple[int, ...]:
    """The batch sizes of a race; what stands in its way is said before the build.

    Args:
        rival: What the new engine has to outrun; None where there is no race.
        config: How it is built.
        onnx: What the new engine is built from.
        trt: The TensorRT that builds it.
        gpu: The GPU that is here.

    Raises:
        OptionError: The engine is for another GPU, or the rival does not fit it.
        EngineError: As `Rival.require_comparable`.
    """
    if rival is None:
        return ()
    if gpu is None or not set(config.compute_capabilities) <= {gpu.compute_capability}:
        raise OptionError(
            "an engine can be raced on its own GPU alone",
            got=f"one for compute capability {', '.join(config.compute_capabilities)}" if gpu else "no GPU",
            hint="leave --faster-than out, and compare on the target: vitrify bench A.engine B.engine",
        )
    batches = tuple(dict.fromkeys(profile.opt for profile in config.profiles))
    rival.require_comparable(batches, onnx, trt, gpu)
    return batches


def race(plan: Path, rival: Rival, batches: tuple[int, ...], spec: ModelSpec) -> tuple[Race, ...]:
    """Times an engine and its rival in turns, arrays of the host in and out.

    Args:
        plan: The new engine, with its manifest beside it.
        rival: What it has to outrun.
        batches: At these batch sizes.
        spec: The new engine's.

    Raises:
        GateError: It is not faster.
        EngineError, DeviceError: The rival does not run here.
    """
    sha256 = Artifact.open(rival.path).manifest.plan_sha256
    races = []
    for batch in batches:
        tensors = np.random.default_rng(batch).standard_normal((batch, *spec.input_shape), dtype=np.float32)
        contenders: dict[str, tuple[Path, Precision]]
        contenders = {"candidate": (plan, "fp32"), rival.path.name: (rival.path, "fp32")}
        turns = time_files(contenders, runtime="tensorrt", tensors=tensors)
        speed = Speed.of(turns, "candidate", [rival.path.name])
        if refusal := speed.refusal(rival.min_speedup):
            raise GateError(
                f"the engine is not faster than {rival.path}; nothing was written",
                got=f"batch {batch}: {refusal}",
                expected=f"at least {rival.min_speedup:g} times as fast, and three rounds in four faster",
                hint=f"deploy {rival.path}; or build without --faster-than",
            )
        races.append(
            Race(
                rival=rival.path.name,
                rival_sha256=sha256,
                batch=batch,
                latency_ms=speed.latency_ms,
                speedup=speed.speedup,
                speedup_low=speed.low,
            )
        )
    return tuple(races)
