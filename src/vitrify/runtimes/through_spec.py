"""An open runtime seen through a model spec: tensors in, logits out, by the names that the spec gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitrify.errors import ArtifactError
from vitrify.runtimes.base import Array, Runtime
from vitrify.spec import ModelSpec


def infer_logits(runtime: Runtime, spec: ModelSpec, tensors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Runs preprocessed images, split and padded where the artifact accepts certain batch sizes only.

    Args:
        runtime: Open.
        spec: Names the input and the output, and gives the input's element type.
        tensors: `[B, 3, H, W]` float32.

    Returns:
        `[B, classes]` float32.

    Raises:
        RuntimeFailureError: The tensors do not fit the model, or the runtime failed.
    """
    return infer_outputs(runtime, spec, tensors)[spec.output.name].astype(np.float32, copy=False)


def infer_outputs(runtime: Runtime, spec: ModelSpec, tensors: npt.NDArray[np.float32]) -> dict[str, Array]:
    """As `infer_logits`, and gives every output of the model, each with the batch axis first.

    Raises:
        RuntimeFailureError: The tensors do not fit the model, or the runtime failed.
    """
    size = runtime.fitting_batch(len(tensors))
    if size != len(tensors):
        parts = [tensors[start : start + size] for start in range(0, len(tensors), size)]
        filled = [np.pad(part, [(0, size - len(part)), (0, 0), (0, 0), (0, 0)]) for part in parts]
        results = [infer_outputs(runtime, spec, part) for part in filled]
        return {name: np.concatenate([result[name] for result in results])[: len(tensors)] for name in results[0]}
    return runtime.infer({spec.input.name: tensors.astype(spec.input.dtype, copy=False)})


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
            hint="export the artifact again",
        )
