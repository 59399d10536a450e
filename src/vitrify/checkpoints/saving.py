"""A model and its spec into one safetensors file."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from vitrify.artifacts import seal, unsealed
from vitrify.errors import OptionError, StorageError
from vitrify.files import atomic_path
from vitrify.spec import SPEC_KEY, ModelSpec


def save_checkpoint(path: str | os.PathLike[str], model: nn.Module, spec: ModelSpec) -> None:
    """Writes the weights under timm's tensor names, with the spec in the metadata, whole or not at all.

    Args:
        path: A `.safetensors` file. Its folder is made if needed.
        model: A model that `build_model` makes from `spec.source` and `len(spec.labels)`.
        spec: Travels in the file, so that loading needs no guess.

    Raises:
        OptionError: Another suffix.
        StorageError: The file cannot be written; what stood there is still there.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise OptionError(
            f"cannot write a checkpoint to {path}", got=f"{path.suffix!r}", expected="a .safetensors file"
        )
    # A copy of each tensor of its own: safetensors refuses views and shared storage.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        # One key only: safetensors writes several in no fixed order, and equal weights should be equal files.
        try:
            save_file(tensors, temporary, metadata={SPEC_KEY: unsealed(spec).to_json()})
            seal(temporary)
        except SafetensorError as error:  # its own type, also for what the operating system says
            raise StorageError(
                f"cannot write {path}", got=error, hint=f"check the space and rights of {path.parent}"
            ) from error
