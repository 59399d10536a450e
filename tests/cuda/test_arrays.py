"""Arrays cross between libraries in place. Host memory stands in for the GPU's: the two protocols are the same."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vitrify.cuda import DeviceArray, arrays
from vitrify.errors import RuntimeFailureError


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int64", "bool"])
def test_numpy_and_torch_read_dlpack_in_place(dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    array = DeviceArray(address=values.ctypes.data, shape=values.shape, dtype=dtype, owner=values, device_type=1)
    seen = torch.from_dlpack(array)  # type: ignore[attr-defined]
    assert seen.data_ptr() == values.ctypes.data
    np.testing.assert_array_equal(seen.numpy(), values)
    np.testing.assert_array_equal(np.from_dlpack(array), values)


def test_memory_lives_as_long_as_a_reader_does() -> None:
    class Owner:
        pass

    owner, values = Owner(), np.ones(3, np.float32)
    alive = weakref.ref(owner)
    array = DeviceArray(address=values.ctypes.data, shape=(3,), dtype="float32", owner=owner, device_type=1)
    seen = torch.from_dlpack(array)  # type: ignore[attr-defined]
    del array, owner
    gc.collect()
    assert alive() is not None
    del seen
    gc.collect()
    assert alive() is None
    assert not arrays._given


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.bool])
def test_torch_is_read_in_place(dtype: torch.dtype) -> None:
    tensor = torch.ones(2, 5).to(dtype)
    array = DeviceArray.of(SimpleNamespace(__dlpack__=tensor.__dlpack__))
    assert (array.address, array.shape, array.dtype) == (tensor.data_ptr(), (2, 5), str(dtype).removeprefix("torch."))


def test_the_cuda_array_interface_goes_both_ways() -> None:
    array = DeviceArray(address=4096, shape=(2, 3), dtype="float16")
    interface = array.__cuda_array_interface__
    assert interface == {"shape": (2, 3), "typestr": "<f2", "data": (4096, False), "strides": None, "version": 3}
    assert DeviceArray.of(SimpleNamespace(__cuda_array_interface__=interface)) == array
    assert DeviceArray.of(array) is array


def test_what_the_protocols_say_of_the_device_is_kept() -> None:
    values = np.ones(3, np.float32)
    shown = {"shape": (3,), "typestr": "<f4", "data": (values.ctypes.data, True), "strides": None, "version": 3}
    seen = DeviceArray.of(SimpleNamespace(__cuda_array_interface__=shown, __dlpack_device__=lambda: (2, 1)))
    assert (seen.device_type, seen.device_index, seen.readonly) == (2, 1, True)
    given = DeviceArray(address=values.ctypes.data, shape=(3,), dtype="float32", device_type=13, device_index=2)
    seen = DeviceArray.of(SimpleNamespace(__dlpack__=given.__dlpack__))
    assert (seen.device_type, seen.device_index, seen.readonly) == (13, 2, False)


def test_what_nobody_took_is_let_go() -> None:
    class Owner:
        pass

    def give(owner: object) -> object:
        return DeviceArray(address=64, shape=(1,), dtype="float32", owner=owner, device_type=1).__dlpack__()

    dropped, kept = Owner(), Owner()
    gone, here = weakref.ref(dropped), weakref.ref(kept)
    give(dropped)
    held = give(kept)
    del dropped, kept
    give(None)  # each time that something is given, what was dropped goes
    assert gone() is None
    assert here() is not None
    del held
    give(None)
    assert here() is None


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(RuntimeFailureError, match="list"):
        DeviceArray.of([1, 2])
    with pytest.raises(RuntimeFailureError, match=r"not C-contiguous[\s\S]*contiguous\(\)"):
        DeviceArray.of(torch.ones(4, 6).T)
    strided = {"shape": (2, 3), "typestr": "<f4", "data": (4096, False), "strides": (4, 8), "version": 3}
    with pytest.raises(RuntimeFailureError, match="not C-contiguous"):
        DeviceArray.of(SimpleNamespace(__cuda_array_interface__=strided))
    with pytest.raises(RuntimeFailureError, match="cannot be read in place"):
        DeviceArray.of(torch.ones(2, requires_grad=True))
    with pytest.raises(RuntimeFailureError, match="element type"):
        DeviceArray.of(torch.ones(2, dtype=torch.bfloat16))
