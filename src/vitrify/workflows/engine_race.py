"""Is an engine faster than one that is there already? Asked on its GPU, at the batch sizes that it is tuned for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrify.artifacts import ENGINE_SUFFIXES, Artifact, BuildConfig, Gpu, Race
from vitrify.errors import GateError, OptionError
from vitrify.spec import ModelSpec
from vitrify.tensorrt import TensorRt, require_fit
from vitrify.workflows.limits import Limits
from vitrify.workflows.racing import Speed, Stopwatch

MIN_SPEEDUP = 1.05
"""What `--faster-than` asks for by itself, as `vitrify quantize` does."""


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
        Limits(min_speedup=self.min_speedup)  # says what is wrong with it

    def require_comparable(self, batches: tuple[int, ...], spec: ModelSpec, trt: TensorRt, gpu: Gpu) -> None:
        """Says what stands in the way of a race before anything is built.

        Args:
            batches: Those that the new engine is tuned for.
            spec: The new engine's.
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
        mine, other = spec.source, manifest.spec.source
        for what, same in (
            ("input shapes", spec.input_shape == manifest.spec.input_shape),
            ("labels", spec.labels == manifest.spec.labels),
            ("preprocessing", spec.preprocess == manifest.spec.preprocess),
            ("architectures", mine.architecture == other.architecture),
            ("checkpoints", mine.checkpoint_sha256 == other.checkpoint_sha256),
        ):
            if not same:
                raise OptionError(
                    f"{self.path} is an engine of another model: {what} differ",
                    expected="an engine of the same model in another precision, or with other options",
                )
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
    rival: Rival | None, config: BuildConfig, spec: ModelSpec, trt: TensorRt, gpu: Gpu | None
) -> tuple[int, ...]:
    """The batch sizes of a race; what stands in its way is said before the build.

    Args:
        rival: What the new engine has to outrun; None where there is no race.
        config: How it is built.
        spec: The new engine's.
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
    rival.require_comparable(batches, spec, trt, gpu)
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
        stopwatch = Stopwatch(runtime="tensorrt", tensors=tensors, threads=None)
        turns = stopwatch.time({"candidate": (plan, "fp32"), rival.path.name: (rival.path, "fp32")})
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
