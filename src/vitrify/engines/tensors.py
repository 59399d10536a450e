"""An engine's inputs and outputs, and the batch sizes that it accepts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitrify.engines.config import Profile
from vitrify.engines.releases import TensorRt
from vitrify.errors import RuntimeFailureError

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "INT64": "int64",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


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


def tensors_of(trt: TensorRt, engine: Any) -> tuple[Tensor, ...]:
    """An engine's inputs and outputs, inputs first.

    Raises:
        RuntimeFailureError: An element type that NumPy does not have, or an axis other than the batch that varies.
    """
    found = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = engine.get_tensor_dtype(name).name
        shape = tuple(engine.get_tensor_shape(name))
        if kind not in _DTYPES or -1 in shape[1:]:
            raise RuntimeFailureError(
                f"the engine's tensor {name} cannot be served", got=f"{kind} {list(shape)}", expected=", ".join(_DTYPES)
            )
        is_input = engine.get_tensor_mode(name) == trt.module.TensorIOMode.INPUT
        found.append(Tensor(name=name, dtype=_DTYPES[kind], shape=shape[1:], is_input=is_input))
    return tuple(sorted(found, key=lambda tensor: not tensor.is_input))


def profiles_of(trt: TensorRt, engine: Any) -> tuple[Profile, ...]:
    """The batch sizes that an engine accepts, by profile."""
    name = next(tensor.name for tensor in tensors_of(trt, engine) if tensor.is_input)
    shapes = [engine.get_tensor_profile_shape(name, index) for index in range(engine.num_optimization_profiles)]
    return tuple(Profile(min=low[0], opt=tuned[0], max=high[0]) for low, tuned, high in shapes)
