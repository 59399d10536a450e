"""From a Vision Transformer checkpoint to a verified, fast, self-describing artifact.

The functions are the commands, with their names, options and defaults: `train`, `export`, `quantize`, `build`,
`verify`, `sign`, `evaluate` and `bench`. `Classifier` answers images. What is said goes to the logger `vitrify`;
`progress=True` draws the terminal's bars. Every error is a `VitrifyError`; the tree is in `vitrify.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrify.api import bench, build, evaluate, export, quantize, sign, train, verify
    from vitrify.artifacts import read_spec
    from vitrify.classifier import Classifier, ClassifierOptions, Failure, LabelScore, Prediction
    from vitrify.errors import GateError, VitrifyError
    from vitrify.spec import ModelSpec

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "vitrify.classifier",
    "ClassifierOptions": "vitrify.classifier",
    "Failure": "vitrify.classifier",
    "GateError": "vitrify.errors",
    "LabelScore": "vitrify.classifier",
    "ModelSpec": "vitrify.spec",
    "Prediction": "vitrify.classifier",
    "VitrifyError": "vitrify.errors",
    "bench": "vitrify.api",
    "build": "vitrify.api",
    "evaluate": "vitrify.api",
    "export": "vitrify.api",
    "quantize": "vitrify.api",
    "read_spec": "vitrify.artifacts",
    "sign": "vitrify.api",
    "train": "vitrify.api",
    "verify": "vitrify.api",
}

__all__ = [
    "Classifier",
    "ClassifierOptions",
    "Failure",
    "GateError",
    "LabelScore",
    "ModelSpec",
    "Prediction",
    "VitrifyError",
    "__version__",
    "bench",
    "build",
    "evaluate",
    "export",
    "quantize",
    "read_spec",
    "sign",
    "train",
    "verify",
]


def __getattr__(name: str) -> object:
    # Resolved on first use, so that `import vitrify` costs nothing and no command pays for another's imports.
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'vitrify' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
