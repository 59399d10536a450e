"""vitrify: from a Vision Transformer checkpoint to a verified, fast, self-describing artifact."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrify.classifier import Classifier, LabelScore, Prediction
    from vitrify.errors import VitrifyError
    from vitrify.spec import ModelSpec, read_spec

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "vitrify.classifier",
    "LabelScore": "vitrify.classifier",
    "ModelSpec": "vitrify.spec",
    "Prediction": "vitrify.classifier",
    "VitrifyError": "vitrify.errors",
    "read_spec": "vitrify.spec",
}

__all__ = ["Classifier", "LabelScore", "ModelSpec", "Prediction", "VitrifyError", "__version__", "read_spec"]


def __getattr__(name: str) -> object:
    # Resolved on first use, so that `import vitrify` costs nothing and no command pays for another's imports.
    if name not in _HOMES:
        raise AttributeError(f"module 'vitrify' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
