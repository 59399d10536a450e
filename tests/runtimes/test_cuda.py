"""The cuda runtime around its engine: options, errors and rows. Most of it runs with a stand-in for the extension."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.conftest import LABELS
from vitrify import Classifier
from vitrify.errors import DeviceError, MissingExtraError, OptionError, RuntimeFailureError
from vitrify.runtimes import RUNTIMES, RuntimeRow, exact_runtime_for, open_runtime, pick_runtime, runtimes_for
from vitrify.verification import verify_artifact

(ROW,) = (row for row in RUNTIMES if row.name == "cuda")


class StandIn:
    """Answers each image with its mean, and remembers how it was opened."""

    opened: ClassVar[list[tuple[str, bool, int, int]]] = []
    version, device = "cublasLt 13.1.1", "NVIDIA GPU, CUDA driver 13.0"

    def __init__(self, path: str, fp8: bool, device: int, streams: int) -> None:
        self.opened.append((path, fp8, device, streams))

    def infer(self, tensors: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        assert tensors.dtype == np.float32
        assert tensors.flags.c_contiguous
        return np.repeat(tensors.mean((1, 2, 3))[:, None], len(LABELS), 1)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[StandIn]]:
    module = ModuleType("vitrify._cuda")
    module.__dict__.update(CudaEngine=StandIn, __spec__=importlib.machinery.ModuleSpec("vitrify._cuda", None))
    monkeypatch.setitem(sys.modules, "vitrify._cuda", module)
    monkeypatch.delitem(sys.modules, "vitrify.runtimes.cuda", raising=False)
    StandIn.opened = []
    yield StandIn
    sys.modules.pop("vitrify.runtimes.cuda", None)


def test_it_has_to_be_named(stand_in: type[StandIn]) -> None:
    assert ROW.installed
    assert pick_runtime("m.onnx").name == "openvino"
    assert exact_runtime_for("m.onnx").name == "onnxruntime"
    assert "cuda" not in [row.name for row in runtimes_for("m.onnx")]
    assert [row.name for row in runtimes_for("m.onnx", ["cuda"])] == ["openvino", "cuda", "onnxruntime"]
    assert pick_runtime("m.onnx", "cuda") == ROW
    with pytest.raises(OptionError, match=r"cuda runtime cannot run m\.engine"):
        pick_runtime("m.engine", "cuda")


def test_without_the_extension_it_says_how_to_build_it() -> None:
    row = RuntimeRow("cuda", ROW.target, ROW.suffixes, "no_such_package", by_name=True, hint=ROW.hint)
    with pytest.raises(MissingExtraError, match=r"hint: build vitrify with it: docs/how-to/cuda\.md"):
        row.load()


def test_opens_and_answers(stand_in: type[StandIn], artifact: Path) -> None:
    batch = np.random.default_rng(1).standard_normal((3, 3, 32, 32), dtype=np.float32)
    with open_runtime(artifact, "cuda", device="cuda:1", precision="fp8", streams=2) as runtime:
        assert stand_in.opened == [(str(artifact), True, 1, 2)]
        assert runtime.versions() == {"cublasLt": "13.1.1"}
        assert runtime.hardware == "NVIDIA GPU, CUDA driver 13.0"
        assert runtime.describe().batch_sizes == ()
        logits = runtime.infer({"image": batch[:, :, ::-1]})["logits"]
        np.testing.assert_allclose(logits[:, 0], batch.mean((1, 2, 3)), atol=1e-6)
        with pytest.raises(RuntimeFailureError, match=r"\[3, 3, 31, 32\]"):
            runtime.infer({"image": batch[:, :, 1:]})
    with pytest.raises(RuntimeFailureError, match="not open"):
        runtime.infer({"image": batch})


def test_the_classifier_takes_fp16(stand_in: type[StandIn], artifact: Path) -> None:
    with Classifier(artifact, runtime="cuda", self_test="never") as classifier:
        assert classifier.runtime.options.precision == "fp16"
    assert stand_in.opened == [(str(artifact), False, 0, 1)]
    with pytest.raises(OptionError, match=r"cuda cannot run in fp32[\s\S]*fp16 or fp8"):
        Classifier(artifact, runtime="cuda", precision="fp32")


def test_verify_says_which_precisions_there_are(stand_in: type[StandIn], artifact: Path) -> None:
    with pytest.raises(OptionError, match=r"in fp32[\s\S]*fp16 or fp8[\s\S]*--precision fp16"):
        verify_artifact(artifact, runtime="cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda:", "cuda:x", "cuda:-1", "", "cuda:1:2"])
def test_a_device_that_it_does_not_have(stand_in: type[StandIn], artifact: Path, device: str) -> None:
    with pytest.raises(OptionError, match="no such device of the cuda runtime"):
        open_runtime(artifact, "cuda", device=device)
    with pytest.raises(OptionError, match="streams"):
        open_runtime(artifact, "cuda", streams=0)
    assert not stand_in.opened


def _no_gpu() -> bool:
    """Whether the extension is built and no GPU is there."""
    if not ROW.installed:
        return False
    from vitrify.cuda import gpu_or_none

    return gpu_or_none() is None


@pytest.mark.skipif(not _no_gpu(), reason="needs the built extension, and no GPU")
def test_no_gpu_is_said_so(artifact: Path) -> None:
    failures: list[BaseException] = []

    def fail() -> None:
        try:
            open_runtime(artifact, "cuda")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=fail) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        assert type(failure) is DeviceError
        assert failure.what == "there is no NVIDIA GPU to run on"
        assert failure.got
        assert failure.hint is not None
        assert "nvidia-smi" in failure.hint
    assert len(failures) == 3
