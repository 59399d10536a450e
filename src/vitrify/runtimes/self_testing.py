"""The first opening of an artifact on a machine runs its golden vectors there.

The same file in another library, or on another processor, is another computation. What was right once stays right for
the same file, library and machine, so that the verdict is kept and the next opening costs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Literal, get_args

import numpy as np

from vitrify.artifacts import remedy_for
from vitrify.errors import OptionError, SelfTestError, SpecError, StorageError
from vitrify.files import atomic_write
from vitrify.machine import cache_folder, instruction_sets, processor_name
from vitrify.runtimes.base import Runtime
from vitrify.runtimes.through_spec import infer_logits
from vitrify.spec import ModelSpec, gate_for, golden_batch, golden_logits

SelfTest = Literal["auto", "always", "never"]


def self_test(runtime: Runtime, spec: ModelSpec, when: SelfTest = "auto") -> None:
    """Holds an open artifact to its golden logits, each vector alone and all in one batch.

    Args:
        runtime: Open.
        spec: Of its model.
        when: `auto`: unless it passed before, as the same file in the same library on the same machine. `always`, or
            `never`.

    Raises:
        ArtifactError: The file is not the one that was written.
        SelfTestError: A logit is off by more than its precision's gate allows, or is no number.
        SpecError: `always`, and the artifact has no golden vectors.
        OptionError: Another word for `when`.
    """
    if when not in get_args(SelfTest):
        raise OptionError("no such time for a self-test", got=when, expected=", ".join(get_args(SelfTest)))
    if when == "never" or (when == "auto" and not spec.golden):
        return
    if not spec.golden:
        raise SpecError(
            f"{runtime.path} has no golden vectors to test it with", hint="export it again, or --self-test auto"
        )
    key = _key(runtime)
    verdict = cache_folder() / "self-test" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if when == "auto" and verdict.exists():
        return
    runtime.artifact.require_intact()
    use = _worst_use(runtime, spec)
    with contextlib.suppress(OSError, StorageError):  # what cannot be kept is tested again the next time
        atomic_write(verdict, json.dumps({"key": key.splitlines(), "gate_use": use}, indent=1))


def _key(runtime: Runtime) -> str:
    """All that the computation hangs on. A file is told by its place and its times, which it does not cost to read."""
    files = [runtime.path, *(path for path in runtime.path.parent.glob(f"{runtime.path.name}.*") if path.is_file())]
    lines = ["program=python"]
    for path in files[:1] if runtime.path.is_dir() else files:
        stat = path.stat()
        lines.append(f"file={stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}")
    lines += [f"{name}={version}" for name, version in sorted(runtime.versions().items())]
    lines += [
        *(f"{name}={getattr(runtime.options, name, '')}" for name in ("precision", "dequantize", "device")),
        f"hardware={runtime.hardware}",
        f"processor={processor_name()}",
        f"instruction_sets={' '.join(instruction_sets())}",
    ]
    return "\n".join(lines)


def _worst_use(runtime: Runtime, spec: ModelSpec) -> float:
    gate = gate_for(spec.computed_in(runtime.options.precision), spec.precision)
    inputs, truth = golden_batch(spec), golden_logits(spec)
    worst = 0.0
    for size in (1, len(inputs)):
        answers = np.concatenate(
            [infer_logits(runtime, spec, inputs[start : start + size]) for start in range(0, len(inputs), size)]
        )
        error = np.where(np.isfinite(answers), np.abs(answers.astype(np.float64) - truth), np.inf)
        use = error / (gate.absolute + gate.relative * np.abs(truth))
        vector, label = np.unravel_index(int(use.argmax()), use.shape)
        worst = max(worst, float(use[vector, label]))
        if worst > 1:
            versions = ", ".join(f"{name} {version}" for name, version in runtime.versions().items())
            where = runtime.hardware or f"{processor_name()} ({', '.join(instruction_sets())})"
            raise SelfTestError(
                f"{runtime.path} does not give its golden logits on this machine",
                got=f"{answers[vector, label]:.6g} for {spec.labels[label]!r} of golden vector {vector + 1}, in batches"
                f" of {size}, by {versions} on {where}",
                expected=f"{truth[vector, label]:.6g}, within {gate.absolute:g} + {gate.relative:g} of it",
                hint=f"another --runtime, or another version of it; else {remedy_for(runtime.path)}",
            )
    return worst
