"""Whose answers the contenders are held to, and whether they give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import ENGINE_SUFFIXES
from vitrify.benchmark.contenders import Contender
from vitrify.errors import OptionError, VitrifyError
from vitrify.progress import Progress
from vitrify.runtimes import Runtime, check_outputs, exact_runtime_for, infer_logits, open_runtime
from vitrify.spec import (
    Check,
    InputKind,
    ModelSpec,
    gate_for,
    golden_batch,
    golden_logits,
    golden_recipe_batch,
)
from vitrify.verification import Answered, Candidate, Logits, Probe, infer_with, judge

_REFERENCE_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Inputs, and the answers that are the truth for them.

    Attributes:
        name: For people.
        inputs: What the tensors are.
        tensors: `[N, 3, H, W]` float32.
        logits: `[N, classes]`.
        path: The artifact that answered; None where golden vectors did.
        runtime: That ran it, in fp32.
        versions: Of that runtime.
    """

    name: str
    inputs: InputKind
    tensors: npt.NDArray[np.float32]
    logits: Logits
    path: Path | None = None
    runtime: str = ""
    versions: dict[str, str]

    def answered(self, batch: int) -> Answered:
        """All inputs as calls of exactly `batch` images; where they do not come out even, the first are used again."""
        index = np.arange(-(-len(self.tensors) // batch) * batch) % len(self.tensors)
        probe = Probe(inputs=self.inputs, batch=batch, tensors=self.tensors[index])
        return Answered(probe=probe, logits=self.logits[index])

    def is_itself(self, contender: Contender) -> bool:
        """Whether a contender is what gave these answers."""
        return (contender.path, contender.row.name, contender.precision) == (self.path, self.runtime, "fp32")


def find_reference(
    contenders: Sequence[Contender],
    named: Path | None,
    tensors: npt.NDArray[np.float32] | None,
    *,
    threads: int | None,
    progress: Progress,
) -> Reference | None:
    """The reference that was named, else the first fp32 artifact, engines last; in the exact runtime.

    Args:
        contenders: What is timed.
        named: By `--reference`.
        tensors: Of real images; without, golden inputs are fed.
        threads: Of the runtime.
        progress: Told of each batch.

    Returns:
        None where no fp32 artifact runs: golden vectors are all there is.

    Raises:
        OptionError: The named one is not in fp32, or of another model.
        VitrifyError: The named one does not load.
    """
    known = next((contender for contender in contenders if contender.spec is not None), None)
    paths = [c.path for c in contenders if c.spec is not None and c.spec.precision == "fp32"]
    paths += [c.path for c in contenders if c.row.name == "torch"]
    paths.sort(key=lambda path: path.suffix in ENGINE_SUFFIXES)  # what was built is judged by what it was built from
    for path in [named] if named else list(dict.fromkeys(paths)):
        try:
            return _answers_of(path, known, tensors, threads=threads, progress=progress)
        except VitrifyError:
            if named:
                raise
            progress.say(f"{path.name} cannot be the reference: it does not run")  # its row says why
    return None


def _answers_of(
    path: Path,
    known: Contender | None,
    tensors: npt.NDArray[np.float32] | None,
    *,
    threads: int | None,
    progress: Progress,
) -> Reference:
    row = exact_runtime_for(path)
    like = known.spec if known else None
    with open_runtime(path, row.name, **row.understood(threads=threads, like=like)) as runtime:
        spec = runtime.spec
        check_outputs(runtime, spec)
        if spec.precision != "fp32":
            raise OptionError(
                f"the reference {path} is not in fp32", got=spec.precision, expected="the fp32 artifact or checkpoint"
            )
        if known is not None and known.artifact is not None and known.spec is not None:
            known.artifact.require_same_model(runtime.artifact, other_spec=spec)
        given = golden_recipe_batch(spec.input_shape) if tensors is None else tensors
        starts = progress.track(range(0, len(given), _REFERENCE_BATCH), label=f"reference: {path.name}")
        logits = np.concatenate([infer_logits(runtime, spec, given[n : n + _REFERENCE_BATCH]) for n in starts])
        return Reference(
            name=f"{path.name} in {row.name} fp32",
            inputs="golden" if tensors is None else "images",
            tensors=given,
            logits=logits,
            path=path,
            runtime=row.name,
            versions=runtime.versions(),
        )


def golden_reference(spec: ModelSpec) -> Reference | None:
    """The golden vectors that an artifact carries, which are PyTorch's answers; None where it carries none."""
    if not spec.golden:
        return None
    return Reference(
        name="its golden vectors", inputs="golden", tensors=golden_batch(spec), logits=golden_logits(spec), versions={}
    )


def check_answers(
    contender: Contender, runtime: Runtime, reference: Reference, *, batch: int, progress: Progress
) -> Check:
    """Compares an open contender with a reference, called as it will be timed.

    Raises:
        RuntimeFailureError: The runtime failed.
    """
    spec = runtime.spec
    arithmetic = spec.computed_in(contender.precision)
    judged = Candidate(
        runtime=contender.row.name,
        precision=arithmetic,
        infer=infer_with(runtime, spec),
        gate=gate_for(arithmetic, spec.precision),
    )
    (check,) = judge(judged, (reference.answered(batch),), progress=progress)
    return check
