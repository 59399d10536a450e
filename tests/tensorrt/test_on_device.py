"""Arrays that are on the GPU already, over a stand-in for TensorRT and the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cuda.fake_cuda import FakeCuda
from tests.tensorrt.conftest import Machine
from tests.tensorrt.running import assert_right, images
from vitrify.cuda import DeviceArray, driver
from vitrify.errors import RuntimeFailureError
from vitrify.runtimes.tensorrt import TensorRtRuntime


def on_gpu(*shape: int, **fields: Any) -> DeviceArray:
    return DeviceArray(address=4096, shape=shape or (1, 3, 32, 32), dtype="float32", **fields)


def test_arrays_of_another_library_are_used_in_place(machine: Machine, engine: Path) -> None:
    with TensorRtRuntime(engine) as runtime:
        batch = torch.from_numpy(images(4))
        into = torch.zeros(4, 6)
        stream = machine.cuda.create_stream()
        for turn in range(4):
            into.zero_()
            given = runtime.infer_on_device({"image": batch}, stream=stream, outputs={"logits": into})["logits"]
            assert given.address == into.data_ptr()
            if turn != 1:  # recording a graph waits, once
                assert not into.any()
            machine.cuda.synchronize(stream)
            assert_right(into.numpy(), batch.numpy())
        machine.cuda.destroy_stream(stream)
        runtime.infer({"image": images(1)})


def test_without_outputs_the_runtimes_own_memory_is_given(machine: Machine, engine: Path) -> None:
    with TensorRtRuntime(engine) as runtime:
        given = runtime.infer_on_device({"image": torch.from_numpy(images(2))})["logits"]
        assert (given.shape, given.dtype) == ((2, 6), "float32")
        machine.cuda.synchronize(0)
        assert given.address in machine.cuda.memory


@pytest.mark.parametrize(
    ("batch", "outputs", "says"),
    [
        ({"picture": torch.zeros(1, 3, 32, 32)}, {}, "picture"),
        ({}, {}, "no arrays"),
        ({"image": torch.zeros(1, 3, 32, 32)}, {"scores": torch.zeros(1, 6)}, "scores"),
        ({"image": torch.zeros(1, 3, 31, 32)}, {}, r"\[1, 3, 31, 32\]"),
        ({"image": torch.zeros(1, 3, 32, 32, dtype=torch.float16)}, {}, "float16"),
        ({"image": torch.zeros(2, 3, 32, 32)}, {"logits": torch.zeros(1, 6)}, r"\[1, 6\]"),
        ({"image": torch.zeros(32, 32, 3, 1).permute(3, 2, 1, 0)}, {}, "not C-contiguous"),
        ({"image": [1, 2]}, {}, "list"),
        ({"image": torch.tensor(1.0)}, {}, r"float32 \[\]"),
        ({"image": torch.zeros(0, 3, 32, 32)}, {}, r"\[0, 3, 32, 32\]"),
        ({"image": torch.zeros(1, 3, 32, 32)}, {"logits": torch.tensor(1.0)}, r"float32 \[\]"),
        ({"image": on_gpu(device_type=3)}, {}, "device type 3"),
        ({"image": on_gpu(device_index=1)}, {}, r"index 1[\s\S]*hint: move it"),
        ({"image": torch.zeros(1, 3, 32, 32)}, {"logits": on_gpu(1, 6, readonly=True)}, "read-only"),
    ],
)
def test_a_wrong_array_is_named(
    new_engine: Path, batch: dict[str, object], outputs: dict[str, object], says: str
) -> None:
    with TensorRtRuntime(new_engine) as runtime, pytest.raises(RuntimeFailureError, match=says):
        runtime.infer_on_device(batch, outputs=outputs)


def test_memory_of_the_host_is_refused_where_there_is_a_device(
    machine: Machine, new_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeCuda, "memory_kinds", driver.Cuda.memory_kinds)
    with (
        TensorRtRuntime(new_engine) as runtime,
        pytest.raises(RuntimeFailureError, match=r"image is not in this GPU's memory[\s\S]*type 1,[\s\S]*infer\(\)"),
    ):
        runtime.infer_on_device({"image": torch.zeros(1, 3, 32, 32)})


def test_a_stream_waits_for_what_was_given_before_and_for_nothing_later(machine: Machine) -> None:
    cuda, ran = machine.cuda, list[str]()
    first, second, event = cuda.create_stream(), cuda.create_stream(), cuda.create_event()
    cuda.give(first, lambda: ran.append("before"))
    cuda.wait_for(second, first, event)
    cuda.give(first, lambda: ran.append("later"))
    cuda.give(second, lambda: ran.append("second"))
    cuda.synchronize(second)
    assert ran == ["before", "second"]
    cuda.synchronize(first)
    assert ran == ["before", "second", "later"]
