"""The kernel is compiled without a GPU, for each that NVRTC and TensorRT both know, and kept."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vitrify.cuda import images
from vitrify.cuda.driver import Argument, Launcher
from vitrify.errors import DeviceError, MissingExtraError
from vitrify.pixels.batches import KERNEL_SOURCES

SOURCES = Path(__file__).parent.parent.parent / "cpp" / "src" / "cuda"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vitrify" / "tensorrt"


@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0"])
def test_it_compiles_for_every_gpu(cache: Path, capability: str) -> None:
    cubin = images.preprocessing_cubin(capability)
    assert cubin.startswith(b"\x7fELF")
    for name in (b"vitrify_preprocess_float32", b"vitrify_preprocess_float16"):
        assert name in cubin
    assert [path.suffix for path in cache.iterdir()] == [".cubin"]


def test_what_was_compiled_is_kept_until_its_sources_change(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_it = images._Nvrtc.compile

    def counted(library: Any, capability: str) -> bytes:
        compiled.append(capability)
        return compile_it(library, capability)

    monkeypatch.setattr(images._Nvrtc, "compile", counted)
    first = images.preprocessing_cubin("9.0")
    assert images.preprocessing_cubin("9.0") == first
    (path,) = cache.iterdir()
    assert compiled == ["9.0"]
    path.write_bytes(path.read_bytes()[:-1] + b"?")  # damaged
    assert images.preprocessing_cubin("9.0") == first
    assert compiled == ["9.0"] * 2
    changed = {**KERNEL_SOURCES, "job.hpp": KERNEL_SOURCES["job.hpp"] + "// other\n"}
    monkeypatch.setattr(images, "KERNEL_SOURCES", changed)
    images.preprocessing_cubin("9.0")
    assert compiled == ["9.0"] * 3
    assert len(list(cache.iterdir())) == 2


def test_the_extension_carries_the_repositorys_sources() -> None:
    assert {name: (SOURCES / name).read_text() for name in KERNEL_SOURCES} == KERNEL_SOURCES


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert images.preprocessing_cubin("8.6").startswith(b"\x7fELF")


def test_refusals_say_why(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"compute capability 5\.2, NVRTC 1[\s\S]*9\.0[\s\S]*hint: install"):
        images.preprocessing_cubin("5.2")
    monkeypatch.setattr(images, "KERNEL_SOURCES", {"preprocess.cu": "int main( {"})
    with pytest.raises(DeviceError, match=r"does not compile[\s\S]*preprocess\.cu"):
        images.preprocessing_cubin("9.0")
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingExtraError, match="nvidia-cuda-nvrtc"):
        images.preprocessing_cubin("9.0")


def test_the_driver_gets_the_arguments_by_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from cuda import bindings

    seen: list[Any] = []

    def launch(*arguments: Any) -> tuple[int]:
        pointers = (ctypes.c_void_p * 2).from_address(arguments[9])
        values = (
            ctypes.c_uint64.from_address(pointers[0] or 0).value,
            ctypes.c_int32.from_address(pointers[1] or 0).value,
        )
        seen.append((arguments[:9], values, arguments[10]))
        return (0,)

    bad = type("Status", (int,), {"name": "CUDA_ERROR_INVALID_IMAGE"})(200)
    driver = SimpleNamespace(
        CUfunction=int, CUstream=int, cuLaunchKernel=launch, cuModuleLoadData=lambda cubin: (bad, None)
    )
    monkeypatch.setattr(bindings, "driver", driver, raising=False)
    monkeypatch.setattr(bindings, "runtime", SimpleNamespace(cudaFree=lambda address: (0,)), raising=False)
    launcher = Launcher()
    arguments: list[Argument] = [ctypes.c_void_p(1 << 40), ctypes.c_int32(-7)]
    launcher.launch(11, grid=(1, 2, 3), block=(32, 8, 1), arguments=arguments, stream=5)
    assert seen == [((11, 1, 2, 3, 32, 8, 1, 0, 5), (1 << 40, -7), 0)]
    with pytest.raises(DeviceError, match="CUDA_ERROR_INVALID_IMAGE"):
        launcher.load(b"", "kernel")
