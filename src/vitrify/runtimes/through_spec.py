"""An open runtime seen through a model spec: tensors in, logits out, by the names that the spec gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vitrify.errors import ArtifactError
from vitrify.runtimes.base import Runtime
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
    """
    given = tensors.astype(spec.input.dtype, copy=False)
    answers: list[npt.NDArray[Any]] = []
    start = 0
    while start < len(given) or not answers:  # a batch of none too: the runtime says that it runs none
        part = given[start:]
        size = runtime.fitting_batch(len(part)) if len(part) else 0
        rows, part = min(size, len(part)), part[:size]
        if rows < size:
            part = np.pad(part, [(0, size - rows)] + [(0, 0)] * (part.ndim - 1))
        answers.append(runtime.infer({spec.input.name: part})[spec.output.name][:rows])
        start += rows
    logits = answers[0] if len(answers) == 1 else np.concatenate(answers)
    return logits.astype(np.float32, copy=False)


def check_outputs(runtime: Runtime, spec: ModelSpec) -> None:
    """Holds an open model to its spec: the output that is named there, with a logit for each label.

    Raises:
        ArtifactError: The graph and the spec are not of one model.
    """
    shapes = {info.name: info.shape for info in runtime.describe().outputs}
    classes = shapes.get(spec.output.name, (None, 0))[-1]
    if classes not in (None, len(spec.labels)):
        raise ArtifactError(
            f"the graph and the spec of {runtime.path} disagree",
            got=", ".join(map(str, runtime.describe().outputs)),
            expected=f"{spec.output.name} with {len(spec.labels)} logits, one a label",
            hint=runtime.remedy,
        )
