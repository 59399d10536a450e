"""An open runtime seen through a model spec: tensors in, logits out, by the names that the spec gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import remedy_for
from vitrify.errors import ArtifactError
from vitrify.runtimes.base import Array, Runtime
from vitrify.spec import ModelSpec


def infer_logits(runtime: Runtime, spec: ModelSpec, tensors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Runs preprocessed images, split and padded where the artifact accepts certain batch sizes only.

    Args:
        runtime: Open.
        spec: Names the input and the output, and gives the input's element type.
        tensors: `[B, 3, H, W]` float32, B at least 1.

    Returns:
        `[B, classes]` float32.

    Raises:
        RuntimeFailureError: The tensors do not fit the model, or the runtime failed.
        ArtifactError: The graph gives another number of rows or classes than the spec says.
    """
    logits = infer_outputs(runtime, spec, tensors)[spec.output.name].astype(np.float32, copy=False)
    if logits.shape != (len(tensors), len(spec.labels)):  # known only now where an axis is of any size
        raise _disagreement(runtime, spec, f"{spec.output.name} {list(logits.shape)} for {len(tensors)} images")
    return logits


def infer_outputs(runtime: Runtime, spec: ModelSpec, tensors: npt.NDArray[np.float32]) -> dict[str, Array]:
    """As `infer_logits`, and gives every output of the model, each with the batch axis first.

    Raises:
        RuntimeFailureError: The tensors do not fit the model, or the runtime failed.
    """
    given = tensors.astype(spec.input.dtype, copy=False)
    answers: list[dict[str, Array]] = []
    start = 0
    while start < len(given) or not answers:  # a batch of none too: the runtime says that it runs none
        part = given[start:]
        size = runtime.describe().fitting_batch(len(part)) if len(part) else 0
        rows, part = min(size, len(part)), part[:size]
        if rows < size:
            part = np.pad(part, [(0, size - rows)] + [(0, 0)] * (part.ndim - 1))
        answer = runtime.infer({spec.input.name: part})
        for name, array in answer.items():
            if array.ndim < 1 or len(array) != size:
                raise _disagreement(runtime, spec, f"{name} {list(array.shape)} for a batch of {size}")
        answers.append({name: array[:rows] for name, array in answer.items()})
        start += rows
    if len(answers) == 1:
        return answers[0]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def check_outputs(runtime: Runtime, spec: ModelSpec) -> None:
    """Holds an open model to its spec: the output that is named there, with a logit for each label.

    Raises:
        ArtifactError: The graph and the spec are not of one model.
    """
    outputs = runtime.describe().outputs
    shape = next((info.shape for info in outputs if info.name == spec.output.name), ())
    if shape is None or len(shape) != 2 or shape[1] not in (None, len(spec.labels)):
        raise _disagreement(runtime, spec, ", ".join(map(str, outputs)))


def _disagreement(runtime: Runtime, spec: ModelSpec, got: str) -> ArtifactError:
    return ArtifactError(
        f"the graph and the spec of {runtime.path} disagree",
        got=got,
        expected=f"{spec.output.name} [B, {len(spec.labels)}], a row an image and a logit a label",
        hint=remedy_for(runtime.path),
    )
