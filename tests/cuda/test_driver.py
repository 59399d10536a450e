"""What CUDA refuses, in words; over a stand-in for cuda-bindings."""

from __future__ import annotations

import concurrent.futures
import inspect
import re
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from vitrify.cuda import driver
from vitrify.errors import DeviceError, MissingExtraError

_CODES = {
    0: "cudaSuccess",
    2: "cudaErrorMemoryAllocation",
    35: "cudaErrorInsufficientDriver",
    100: "cudaErrorNoDevice",
    400: "cudaErrorInvalidResourceHandle",
    700: "cudaErrorIllegalAddress",
    719: "cudaErrorLaunchFailure",
}


def status(code: int) -> Any:
    return type("Status", (int,), {"name": _CODES[code]})(code)


def cudart(
    count: tuple[int, ...], *, driver: int = 13000, fails: int = 0, knows_memory: bool = True
) -> SimpleNamespace:
    """cuda-bindings with a device count, a driver version, and an answer to every call that does work."""
    thread = threading.local()  # each has a device of its own
    forgotten: list[int] = []

    def forget() -> tuple[Any, ...]:
        forgotten.append(1)
        return (status(0),)

    def set_device(index: int) -> tuple[Any, ...]:
        thread.device = index
        return (status(0),)

    return SimpleNamespace(
        thread=thread,
        forgotten=forgotten,
        cudaGetDeviceCount=lambda: (status(count[0]), *count[1:]),
        cudaSetDevice=set_device,
        cudaGetDevice=lambda: (status(0), getattr(thread, "device", 0)),
        cudaDriverGetVersion=lambda: (status(0), driver),
        cudaRuntimeGetVersion=lambda: (status(0), 13050),
        cudaMalloc=lambda size: (status(fails), 4096),
        cudaMallocHost=lambda size: (status(fails), 4096),
        cudaGraphInstantiate=lambda graph, flags: (status(fails), 4096),
        cudaGraphLaunch=lambda graph, stream: (status(fails),),
        cudaMemGetInfo=lambda: (status(0 if knows_memory else 719), 10**9, 80 * 10**9),
        cudaGetErrorString=lambda code: (status(0), b"text"),
        cudaGetLastError=forget,
    )


def bound(monkeypatch: pytest.MonkeyPatch, runtime: SimpleNamespace) -> driver.Cuda:
    from cuda import bindings

    monkeypatch.setattr(bindings, "runtime", runtime, raising=False)
    return driver.Cuda()


def test_the_gpus_refusals_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"no NVIDIA GPU[\s\S]*no NVIDIA driver"):
        bound(monkeypatch, cudart((35, 0), driver=0))
    with pytest.raises(DeviceError, match=r"no NVIDIA GPU[\s\S]*cudaErrorNoDevice"):
        bound(monkeypatch, cudart((100, 0)))
    with pytest.raises(DeviceError, match=r"no NVIDIA GPU[\s\S]*0 devices"):
        bound(monkeypatch, cudart((0, 0)))
    with pytest.raises(DeviceError, match=r"driver is too old[\s\S]*CUDA 11\.4[\s\S]*CUDA 13\.5 or newer[\s\S]*update"):
        bound(monkeypatch, cudart((35, 0), driver=11040))
    gpu = bound(monkeypatch, cudart((0, 1), fails=2))
    with pytest.raises(
        DeviceError, match=r"out of memory[\s\S]*1\.00 GB of 80\.00 GB free[\s\S]*2\.00 GB for cudaMalloc"
    ):
        gpu.allocate(2 * 10**9)


def test_out_of_memory_shows_a_size_where_one_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = bound(monkeypatch, cudart((0, 1), fails=2))
    with pytest.raises(DeviceError, match=r"host has not enough memory[\s\S]*2\.00 GB for cudaMallocHost") as caught:
        gpu.allocate_pinned(2 * 10**9)
    assert "80" not in str(caught.value)  # the GPU's memory says nothing of the host's
    with pytest.raises(DeviceError, match=r"GPU is out of memory[\s\S]*1\.00 GB of 80\.00 GB free") as caught:
        gpu.launch(140_000_000_000, 7)  # a handle, not a size
    assert caught.value.expected is None
    gpu = bound(monkeypatch, cudart((0, 1), fails=2, knows_memory=False))
    with pytest.raises(DeviceError, match=r"expected: 0\.50 MB for cudaMalloc") as caught:
        gpu.allocate(500_000)
    assert caught.value.got == "cudaMalloc failed"


@pytest.mark.parametrize(("code", "lost"), [(700, True), (719, True), (400, False)])
def test_after_an_error_that_stays_the_process_has_to_be_started_again(
    monkeypatch: pytest.MonkeyPatch, code: int, lost: bool
) -> None:
    runtime = cudart((0, 1), fails=code)
    with pytest.raises(DeviceError, match=rf"cudaGraphLaunch failed[\s\S]*{_CODES[code]}: text") as caught:
        bound(monkeypatch, runtime).launch(1, 2)
    assert (caught.value.hint is not None and "start it again" in caught.value.hint) == lost
    assert runtime.forgotten  # TensorRT's next check does not find it


def test_each_thread_has_a_current_device(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = cudart((0, 2))
    gpu = bound(monkeypatch, runtime)

    def use() -> tuple[int, int]:
        runtime.cudaSetDevice(1)
        with gpu.current():
            inside = runtime.thread.device
        return inside, runtime.thread.device

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(use).result() == (0, 1)
    assert runtime.thread.device == 0


def test_the_calls_are_what_cuda_bindings_has() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    names = set(re.findall(r"\bcuda[A-Z]\w+", inspect.getsource(driver)))
    known = {*dir(runtime), *runtime.cudaError_t.__members__, *runtime.cudaStreamCaptureMode.__members__}
    assert names <= known | set(runtime.cudaMemcpyKind.__members__)
    assert len(names) > 30


def test_without_cuda_bindings_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingExtraError, match=r'cuda-bindings[\s\S]*pip install "vitrify\[tensorrt\]"'):
        driver.Cuda()
