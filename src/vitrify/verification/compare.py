"""The same batches through a reference, once, and through each candidate."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitrify.pixels import ImageSource, preprocess
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import Runtime, infer_logits
from vitrify.spec import Check, Gate, InputKind, ModelSpec, Precision, golden_recipe_batch
from vitrify.verification.metrics import Logits, check_logits

Infer: TypeAlias = Callable[[npt.NDArray[np.float32]], Logits]
"""`[B, 3, H, W]` float32 to `[B, classes]` float32."""

BATCH_SIZES = (1, 3, 8)
"""One, an odd number and a usual one: what an exporter that fixed or guessed the batch axis gets wrong."""

RANDOM_SEED = 20_240_229
_IMAGE_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One kind of input at one batch size.

    Attributes:
        inputs: What the tensors are.
        batch: Rows in one call.
        tensors: `[N, 3, H, W]` float32; N need not be a multiple of `batch`.
    """

    inputs: InputKind
    batch: int
    tensors: npt.NDArray[np.float32]

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        for start in range(0, len(self.tensors), self.batch):
            yield self.tensors[start : start + self.batch]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A probe with the reference's answer.

    Attributes:
        probe: The inputs.
        logits: `[N, classes]` of the reference.
    """

    probe: Probe
    logits: Logits

    @property
    def inputs(self) -> InputKind:
        """What the probe's tensors are."""
        return self.probe.inputs


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is judged: a way to infer, and what it is called and held to."""

    runtime: str
    precision: Precision
    infer: Infer
    gate: Gate


def infer_with(runtime: Runtime, spec: ModelSpec) -> Infer:
    """An open runtime as a function from the spec's input tensor to its output tensor."""
    return functools.partial(infer_logits, runtime, spec)


def standard_probes(
    spec: ModelSpec, images: Sequence[ImageSource] = (), batches: Sequence[int] = ()
) -> tuple[Probe, ...]:
    """Golden and random inputs at every batch size of `BATCH_SIZES`, and real images where there are some.

    Args:
        spec: Gives shapes and preprocessing.
        images: Real images; all are compared.
        batches: Further batch sizes for random inputs.

    Raises:
        ImageError: An image cannot be read.
    """
    golden = golden_recipe_batch(spec.input_shape)
    rng = np.random.default_rng(RANDOM_SEED)
    sizes = (*BATCH_SIZES, *sorted(set(batches) - set(BATCH_SIZES)))
    noise = rng.standard_normal((max(sizes), *spec.input_shape), dtype=np.float32)
    probes = [Probe(inputs="golden", batch=len(golden), tensors=golden)]
    probes += [Probe(inputs="random", batch=batch, tensors=noise[:batch]) for batch in sizes]
    if images:
        tensors = preprocess(images, spec.preprocess)
        probes.append(Probe(inputs="images", batch=min(_IMAGE_BATCH, len(tensors)), tensors=tensors))
    return tuple(probes)


def answer(reference: Infer, probes: Sequence[Probe], *, progress: Progress = SILENT) -> tuple[Answered, ...]:
    """Asks the reference once; every candidate is then judged by what it said.

    Args:
        reference: The truth.
        probes: The inputs.
        progress: Told of each batch.
    """
    return tuple(
        Answered(probe=probe, logits=_run(reference, probe, f"reference: {probe.inputs}", progress)) for probe in probes
    )


def judge(candidate: Candidate, truths: Sequence[Answered], *, progress: Progress = SILENT) -> tuple[Check, ...]:
    """The one comparison loop: feeds every probe to a candidate and measures how far it is from the truth.

    Args:
        candidate: What is judged.
        truths: Inputs and the reference's answers.
        progress: Told of each batch.

    Returns:
        A check for each probe, in order.
    """
    return tuple(
        check_logits(
            truth.logits,
            _run(candidate.infer, truth.probe, f"{candidate.runtime} {candidate.precision}: {truth.inputs}", progress),
            gate=_gate(candidate, truth.inputs),
            runtime=candidate.runtime,
            precision=candidate.precision,
            inputs=truth.inputs,
            batch=truth.probe.batch,
        )
        for truth in truths
    )


def _gate(candidate: Candidate, inputs: InputKind) -> Gate:
    # Noise has no margin between its classes: a reduced precision is held to the errors there, and to the answers on
    # images.
    if candidate.precision == "fp32" or inputs == "images":
        return candidate.gate
    return dataclasses.replace(candidate.gate, top1_agreement=0.0)


def _run(infer: Infer, probe: Probe, label: str, progress: Progress) -> Logits:
    return np.concatenate([infer(batch) for batch in progress.track(list(probe), label=label)])
