from __future__ import annotations

from pathlib import Path

import pytest

from tests.tensorrt.conftest import machine
from vitrify.cuda import gpu_or_none
from vitrify.errors import VitrifyError
from vitrify.tensorrt import load_tensorrt
from vitrify.workflows.build import engine_from_onnx

__all__ = ["machine"]


def can_run_engines() -> bool:
    """Whether the TensorRT that is installed runs what it builds on a GPU of this machine."""
    gpu = gpu_or_none()
    try:
        full = load_tensorrt().release.flavour == "full"
    except VitrifyError:
        return False
    return gpu is not None and (full or gpu.compute_capability != "9.0")


@pytest.fixture
def engine(request: pytest.FixtureRequest, artifact: Path, tmp_path: Path) -> Path:
    """`artifact` as an engine: TensorRT's own on a GPU, and by the stand-in for both where there is none."""
    if not can_run_engines():
        request.getfixturevalue("machine")
    return engine_from_onnx(artifact, tmp_path / "tiny.engine").path
