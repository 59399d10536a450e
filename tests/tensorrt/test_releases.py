"""The table, held to the bindings that can be installed."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from vitrify.artifacts import Flavour
from vitrify.errors import MissingExtraError, OptionError
from vitrify.tensorrt import load_tensorrt, releases
from vitrify.tensorrt.releases import MODULES, RELEASES, release_of

rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="TensorRT-RTX is not installed"
)


@pytest.mark.parametrize(
    ("flavour", "version", "name"),
    [
        ("full", "8.5.3.1", "TensorRT 8.5"),
        ("full", "8.6.1", "TensorRT 8.6"),
        ("full", "9.3.0", "TensorRT 8.6"),
        ("full", "10.0.1", "TensorRT 10"),
        ("full", "10.14.1.48", "TensorRT 10"),
        ("full", "11.4.0", "TensorRT 11"),
        ("full", "12.0", "TensorRT 11"),
        ("rtx", "1.7.1.116", "TensorRT-RTX"),
    ],
)
def test_a_version_finds_its_row(flavour: Flavour, version: str, name: str) -> None:
    assert release_of(flavour, version).name == name


def test_a_version_before_every_row_is_refused() -> None:
    with pytest.raises(OptionError, match=r"too old[\s\S]*8\.4\.1[\s\S]*TensorRT 8\.5 or newer"):
        release_of("full", "8.4.1")


def test_rows_are_newest_first() -> None:
    for flavour in MODULES:
        since = [release.since for release in RELEASES if release.flavour == flavour]
        assert since == sorted(since, reverse=True)


def test_a_missing_binding_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "MODULES", {"full": ("no_such_trt",), "rtx": ("no_such_rtx",)})
    for choice, name in (("auto", "no_such_trt"), ("full", "no_such_trt"), ("rtx", "no_such_rtx")):
        with pytest.raises(MissingExtraError, match=rf'{name}[\s\S]*pip install "vitrify\[tensorrt\]"'):
            load_tensorrt(choice)  # type: ignore[arg-type]


def test_a_binding_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> object:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(releases, "MODULES", {"full": ("json",), "rtx": ()})
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MissingExtraError, match="libnvinfer"):
        load_tensorrt()


@rtx
def test_the_row_of_rtx_says_what_the_binding_has() -> None:
    trt = load_tensorrt("rtx")
    module, row = trt.module, trt.release
    assert row.name == "TensorRT-RTX"
    assert trt.name.startswith("TensorRT-RTX 1.")
    assert (trt.flag("BuilderFlag", "FP16") is None) == row.strongly_typed
    assert hasattr(module, "IProgressMonitor") == row.progress_monitor
    assert hasattr(module.IBuilderConfig, "set_compute_capability") == row.compute_capabilities
    assert hasattr(module.IBuilderConfig, "builder_optimization_level") == row.optimization_level
    assert (trt.flag("LayerType", "NORMALIZATION") is not None) == row.layer_normalization
    assert (trt.flag("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH") is not None) == row.explicit_batch_flag
    assert hasattr(module.ICudaEngine, "create_runtime_config") == row.runtime_cache
    for name in ("create_runtime_cache", "set_runtime_cache", "set_execution_context_allocation_strategy"):
        assert hasattr(module.IRuntimeConfig, name) == row.runtime_cache
    assert hasattr(module.IRuntimeCache, "serialize")
    assert hasattr(module.IRuntimeCache, "deserialize")
    assert trt.flag("ExecutionContextAllocationStrategy", "USER_MANAGED") is not None
