"""Engines, batches and right answers for the tests that run an engine."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from tests.conftest import tiny_model
from vitrify.artifacts import BuildConfig, Profile
from vitrify.workflows.build import engine_from_onnx

Images: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

VERSIONS = ("10.13.0.35", "8.5.3.1")
"""Releases that differ most in how they run engines."""

_seeds = itertools.count()


def build(artifact: Path, folder: Path, *profiles: str) -> Path:
    config = BuildConfig(profiles=tuple(map(Profile.parse, profiles or ("1:8:16",))), timing_cache="none")
    return engine_from_onnx(artifact, folder / "tiny.engine", config=config).path


def images(count: int) -> Images:
    """Other images at every call: an answer to another batch, or in another row, is seen."""
    return np.random.default_rng(next(_seeds)).standard_normal((count, 3, 32, 32), dtype=np.float32)


def assert_right(answer: Images, batch: Images) -> None:
    """Holds logits to PyTorch's."""
    with torch.inference_mode():
        np.testing.assert_allclose(answer, tiny_model()(torch.from_numpy(batch)).numpy(), rtol=1e-4, atol=1e-4)
