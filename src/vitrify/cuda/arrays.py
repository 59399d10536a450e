"""Arrays on the GPU, as other libraries hand them over: the CUDA array interface and DLPack.

https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html and https://dmlc.github.io/dlpack/latest/c_api.html
"""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vitrify.errors import RuntimeFailureError

CPU, CUDA, CUDA_MANAGED = 1, 2, 13
"""DLPack's numbers of kinds of memory.

Page-locked host memory (3) is not among what a GPU's runtime takes: kernels can read it, over the bus at a small part
of the speed, and who hands it over mostly believes it to be on the GPU.
"""

_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}


@dataclass(frozen=True, kw_only=True)
class DeviceArray:
    """A C-contiguous array on the GPU, which PyTorch, CuPy and JAX read in place.

    Attributes:
        address: Of the first element.
        shape: Axis lengths.
        dtype: NumPy's name of the element type.
        owner: What keeps the memory alive.
        device_type: DLPack's number of the kind of device.
        device_index: Which of these devices.
        readonly: Whether its library forbids writing.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    owner: Any = field(repr=False, compare=False, default=None)
    device_type: int = CUDA
    device_index: int = 0
    readonly: bool = False

    @classmethod
    def of(cls, array: Any) -> DeviceArray:
        """Reads another library's array, without a copy.

        Args:
            array: With `__cuda_array_interface__` (PyTorch, CuPy, Numba) or `__dlpack__` (JAX, and the others too).

        Raises:
            RuntimeFailureError: Neither, or not C-contiguous.
        """
        if isinstance(array, cls):
            return array
        interface = getattr(array, "__cuda_array_interface__", None)
        if interface is not None:
            shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
            _require_contiguous(shape, interface.get("strides"), dtype.itemsize)
            address, readonly = interface["data"]
            kind, index = _device_of(array)
            return cls(
                address=int(address),
                shape=shape,
                dtype=dtype.name,
                owner=array,
                device_type=kind,
                device_index=index,
                readonly=bool(readonly),
            )
        if hasattr(array, "__dlpack__"):
            return _from_dlpack(array)
        raise RuntimeFailureError(
            "this is no array on the GPU",
            got=type(array).__name__,
            expected="__cuda_array_interface__ or __dlpack__, as PyTorch, CuPy and JAX have",
        )

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": np.dtype(self.dtype).str,
            "data": (self.address, self.readonly),
            "strides": None,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device_type, self.device_index

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        return _to_dlpack(self)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output of an engine.

    Attributes:
        name: Tensor name.
        dtype: NumPy's name of the element type.
        shape: Without the batch axis.
        is_input: Or an output.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_input: bool

    def size(self, batch: int) -> int:
        """Bytes of a batch."""
        return batch * math.prod(self.shape) * np.dtype(self.dtype).itemsize


def host_bytes(address: int, size: int) -> npt.NDArray[Any]:
    """Memory of the host as an array of uint8, without owning it."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


class _Device(ctypes.Structure):
    _fields_: ClassVar = [("kind", ctypes.c_int32), ("index", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_: ClassVar = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    """`DLManagedTensor`: a tensor and how to say that it is no longer needed."""


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)

_is_capsule = ctypes.pythonapi.PyCapsule_IsValid
_is_capsule.restype = ctypes.c_int
_is_capsule.argtypes = (ctypes.py_object, ctypes.c_char_p)

_NAME = b"dltensor"
_given: dict[int, tuple[Any, ...]] = {}
"""What consumers hold, by the address of its `DLManagedTensor`, until they call its deleter; the capsule comes last."""


def _forget(managed: Any) -> None:
    _given.pop(ctypes.addressof(managed.contents), None)


def _forget_unconsumed() -> None:
    """Lets go of what nobody took: capsules that only this table still holds.

    A capsule's own destructor could say so at once; but one that is written in Python loses the error because of which
    a consumer drops a capsule.
    """
    for address, held in list(_given.items()):
        # Two references: the table's, and the call's own. A consumer renames the capsule that it takes.
        if sys.getrefcount(held[-1]) <= 2 and _is_capsule(held[-1], _NAME):
            _given.pop(address, None)


_deleter = _Deleter(_forget)


def _to_dlpack(array: DeviceArray) -> Any:
    dtype = np.dtype(array.dtype)
    shape = (ctypes.c_int64 * len(array.shape))(*array.shape)
    managed = _Managed(
        tensor=_Tensor(
            data=array.address,
            device=_Device(array.device_type, array.device_index),
            ndim=len(array.shape),
            dtype=_DataType(_CODES[dtype.kind], 8 * dtype.itemsize, 1),
            shape=shape,
        ),
        deleter=_deleter,
    )
    _forget_unconsumed()
    capsule = _new_capsule(ctypes.addressof(managed), _NAME, None)
    _given[ctypes.addressof(managed)] = (managed, shape, array, capsule)
    return capsule


def _from_dlpack(array: Any) -> DeviceArray:
    # The capsule is read and dropped unconsumed; `array` itself keeps the memory alive.
    try:
        capsule = array.__dlpack__()
    except (BufferError, RuntimeError) as error:  # its library does not give it away, and says why
        raise RuntimeFailureError("this array cannot be read in place", got=error) from error
    tensor = _Managed.from_address(_capsule_pointer(capsule, _NAME)).tensor
    kind = _KINDS.get(tensor.dtype.code)
    if kind is None or tensor.dtype.lanes != 1:
        raise RuntimeFailureError("this array's element type cannot be read", got=f"DLPack code {tensor.dtype.code}")
    dtype = np.dtype("bool") if kind == "b" else np.dtype(f"{kind}{tensor.dtype.bits // 8}")
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = tuple(tensor.strides[axis] * dtype.itemsize for axis in range(tensor.ndim)) if tensor.strides else None
    _require_contiguous(shape, strides, dtype.itemsize)
    return DeviceArray(
        address=(tensor.data or 0) + tensor.byte_offset,
        shape=shape,
        dtype=dtype.name,
        owner=(array, capsule),
        device_type=tensor.device.kind,
        device_index=tensor.device.index,
    )


def _device_of(array: Any) -> tuple[int, int]:
    """The CUDA array interface does not say which GPU; the libraries that have both protocols do."""
    known = getattr(array, "__dlpack_device__", None)
    kind, index = known() if known is not None else (CUDA, 0)
    return int(kind), int(index)


def _require_contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> None:
    if strides is None:
        return
    expected = tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    if any(length > 1 and have != want for length, have, want in zip(shape, strides, expected, strict=True)):
        raise RuntimeFailureError(
            "an array on the GPU is not C-contiguous",
            got=f"strides {strides}",
            expected=f"{expected}",
            hint="make it so first: tensor.contiguous() in PyTorch",
        )
