"""Is an engine faster than one that is there already? Asked on its GPU, at the batch sizes that it is tuned for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrify.engines import BuildConfig, Gpu, Race, read_manifest
from vitrify.errors import GateError, OptionError
from vitrify.spec import ENGINE_SUFFIXES, ModelSpec
from vitrify.workflows.limits import Limits
from vitrify.workflows.racing import Speed, Stopwatch


@dataclass(frozen=True, kw_only=True)
class Rival:
    """What a new engine has to outrun.

    Attributes:
        path: An engine of the same model, for this GPU.
        min_speedup: Least speedup over it, at every batch size that both are raced at.
    """

    path: Path
    min_speedup: float = 1.05

    def __post_init__(self) -> None:
        Limits(min_speedup=self.min_speedup)  # says what is wrong with it

    def batches(self, tuned_for: tuple[int, ...], spec: ModelSpec) -> tuple[int, ...]:
        """Those of the batch sizes that the rival takes too; told before anything is built.

        Args:
            tuned_for: The new engine's.
            spec: The new engine's.

        Raises:
            OptionError: No engine, another model, or no batch size that both take.
            EngineError: Its manifest is missing or cannot be used.
        """
        if self.path.suffix not in ENGINE_SUFFIXES:
            raise OptionError(
                f"cannot race {self.path}", expected="an engine, .engine or .plan", hint="vitrify build makes one"
            )
        manifest = read_manifest(self.path)
        for what, mine, other in (
            ("input shapes", spec.input_shape, manifest.spec.input_shape),
            ("labels", spec.labels, manifest.spec.labels),
        ):
            if mine != other:
                raise OptionError(
                    f"{self.path} is an engine of another model: {what} differ",
                    expected="an engine of the same model in another precision, or with other options",
                )
        common = tuple(batch for batch in tuned_for if any(batch in profile for profile in manifest.config.profiles))
        if not common:
            raise OptionError(
                f"{self.path} takes none of the batch sizes that the new engine is tuned for",
                got=", ".join(map(str, manifest.config.profiles)),
                expected=", ".join(map(str, tuned_for)),
                hint="name an engine with such a profile",
            )
        return common


def batches_to_race(rival: Rival | None, config: BuildConfig, spec: ModelSpec, gpu: Gpu | None) -> tuple[int, ...]:
    """The batch sizes of a race; what stands in its way is said before the build.

    Args:
        rival: What the new engine has to outrun; None where there is no race.
        config: How it is built.
        spec: The new engine's.
        gpu: The GPU that is here.

    Raises:
        OptionError: The engine is for another GPU, or the rival does not fit it.
        EngineError: The rival's manifest is missing or cannot be used.
    """
    if rival is None:
        return ()
    if gpu is None or not set(config.compute_capabilities) <= {gpu.compute_capability}:
        raise OptionError(
            "an engine can be raced on its own GPU alone",
            got=f"one for compute capability {', '.join(config.compute_capabilities)}" if gpu else "no GPU",
            hint="leave --faster-than out, and compare on the target: vitrify bench A.engine B.engine",
        )
    return rival.batches(tuple(dict.fromkeys(profile.opt for profile in config.profiles)), spec)


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
    sha256 = read_manifest(rival.path).plan_sha256
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
