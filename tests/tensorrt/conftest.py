from __future__ import annotations

import functools
from pathlib import Path

import pytest

from tests.cuda.fake_cuda import FakeCuda
from tests.cuda.fake_launcher import FakeLauncher
from tests.tensorrt.fake import FakeTensorRt
from tests.tensorrt.running import VERSIONS, build
from vitrify.artifacts import Flavour
from vitrify.cuda import driver, images
from vitrify.cuda.images import preprocessing_cubin
from vitrify.runtimes import tensorrt as runtime
from vitrify.tensorrt import releases
from vitrify.verification import probed
from vitrify.workflows import build as workflow

once = functools.cache(preprocessing_cubin)
"""Each GPU's kernel is compiled once for all tests."""


class Machine:
    """A machine with a fake GPU and a fake TensorRT 10, put where vitrify looks for the real ones."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.use(FakeCuda())

    def use(self, cuda: FakeCuda, version: str = "10.13.0.35", flavour: Flavour = "full") -> None:
        self.cuda, self.trt = cuda, FakeTensorRt(cuda, version, flavour)
        for module in (driver, runtime):
            self._patch.setattr(module, "cuda", lambda: self.cuda)
        self.launcher = FakeLauncher(cuda)
        self._patch.setattr(images, "launcher", lambda: self.launcher)
        self._patch.setattr(images, "preprocessing_cubin", once)
        for module in (releases, runtime, probed, workflow):
            self._patch.setattr(module, "load_tensorrt", lambda choice="auto": self.trt.binding)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Machine(monkeypatch)


@pytest.fixture(params=VERSIONS)
def engine(request: pytest.FixtureRequest, machine: Machine, artifact: Path, tmp_path: Path) -> Path:
    """An engine for batches of 1 to 16, of a release whose contexts share a profile and of one whose do not."""
    machine.use(FakeCuda(), request.param)
    return build(artifact, tmp_path)


@pytest.fixture
def new_engine(machine: Machine, artifact: Path, tmp_path: Path) -> Path:
    """An engine of TensorRT 10 for batches of 1 to 16."""
    return build(artifact, tmp_path)
