"""The one comparison loop: the same batches through a reference and each candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitrify.pixels import ImageSource, preprocess
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import Runtime
from vitrify.spec import Check, Gate, InputKind, ModelSpec, Precision, golden_recipe_batch
from vitrify.verify.metrics import BF16_GATE, FP32_GATE, Logits, check_logits

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
class Candidate:
    """What is judged: a way to infer, and what it is called and held to."""

    runtime: str
    precision: Precision
    infer: Infer
    gate: Gate


def gate_for(precision: Precision) -> Gate:
    """The gate that a runtime precision is held to."""
    return FP32_GATE if precision == "fp32" else BF16_GATE


def infer_with(runtime: Runtime, spec: ModelSpec) -> Infer:
    """An open runtime as a function from the spec's input tensor to its output tensor."""

    def infer(batch: npt.NDArray[np.float32]) -> Logits:
        outputs = runtime.infer({spec.input.name: batch.astype(spec.input.dtype, copy=False)})
        return outputs[spec.output.name].astype(np.float32, copy=False)

    return infer


def standard_probes(spec: ModelSpec, images: Sequence[ImageSource] = ()) -> tuple[Probe, ...]:
    """Golden and random inputs at every batch size of `BATCH_SIZES`, and real images where there are some.

    Args:
        spec: Gives shapes and preprocessing.
        images: Real images; all are compared.

    Raises:
        ImageError: An image cannot be read.
    """
    golden = golden_recipe_batch(spec.input_shape)
    rng = np.random.default_rng(RANDOM_SEED)
    noise = rng.standard_normal((max(BATCH_SIZES), *spec.input_shape), dtype=np.float32)
    probes = [Probe(inputs="golden", batch=len(golden), tensors=golden)]
    probes += [Probe(inputs="random", batch=batch, tensors=noise[:batch]) for batch in BATCH_SIZES]
    if images:
        tensors = preprocess(images, spec.preprocess)
        probes.append(Probe(inputs="images", batch=min(_IMAGE_BATCH, len(tensors)), tensors=tensors))
    return tuple(probes)


def compare(
    reference: Infer, candidates: Iterable[Candidate], probes: Sequence[Probe], *, progress: Progress = SILENT
) -> tuple[Check, ...]:
    """Feeds every probe to the reference once and to every candidate, and measures.

    Args:
        reference: The truth.
        candidates: What is judged.
        probes: The inputs.
        progress: Told of each batch.

    Returns:
        A check for each candidate and probe, in that order.
    """
    candidates = tuple(candidates)
    truths = [
        np.concatenate([reference(batch) for batch in progress.track(list(probe), label=f"reference: {probe.inputs}")])
        for probe in probes
    ]
    checks = []
    for candidate in candidates:
        for probe, truth in zip(probes, truths, strict=True):
            label = f"{candidate.runtime} {candidate.precision}: {probe.inputs}"
            answer = np.concatenate([candidate.infer(batch) for batch in progress.track(list(probe), label=label)])
            checks.append(
                check_logits(
                    truth,
                    answer,
                    gate=candidate.gate,
                    runtime=candidate.runtime,
                    precision=candidate.precision,
                    inputs=probe.inputs,
                    batch=probe.batch,
                )
            )
    return tuple(checks)
