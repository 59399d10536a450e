"""What every inference runtime is: a context manager with `describe` and `infer`."""

from __future__ import annotations

import abc
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import Artifact, remedy_for
from vitrify.errors import OptionError, RuntimeFailureError
from vitrify.spec import ModelSpec, Precision

if TYPE_CHECKING:
    from typing_extensions import Self

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """What every runtime understands; each has a subclass with what it understands besides.

    Attributes:
        precision: Arithmetic of the runtime: fp32 is exact; bf16 only where the runtime and the processor have it.
    """

    precision: Precision = "fp32"


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One input or output of a model.

    Attributes:
        name: Tensor name.
        dtype: NumPy's name of the element type.
        shape: One entry an axis, None where any size goes; None where not even the number of axes is known.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def fits(self, array: Array) -> bool:
        """Whether an array has this dtype and shape, with at least one element on each axis of any size."""
        return array.dtype == np.dtype(self.dtype) and (
            self.shape is None
            or (
                array.ndim == len(self.shape)
                and all(
                    have > 0 if want is None else have == want
                    for have, want in zip(array.shape, self.shape, strict=True)
                )
            )
        )

    def __str__(self) -> str:
        shape = ["…"] if self.shape is None else ["B" if n is None else str(n) for n in self.shape]
        return f"{self.name} {self.dtype} [{', '.join(shape)}]"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a model takes and gives.

    Attributes:
        inputs: With the batch axis.
        outputs: With the batch axis.
        batches: The smallest and the largest batch of each range that is accepted; empty where any goes.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    batches: tuple[tuple[int, int], ...] = ()

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The ends of what is accepted, where not everything is: what ships has to run."""
        return tuple(sorted({size for ends in self.batches for size in ends}))

    def fitting_batch(self, count: int) -> int:
        """The batch size to run `count` images with: `count`, the next larger that is accepted, or the largest."""
        if not self.batches or any(low <= count <= high for low, high in self.batches):
            return count
        larger = [low for low, _ in self.batches if low > count]
        return min(larger) if larger else max(high for _, high in self.batches)


class Runtime(abc.ABC):
    """Base of every runtime: lifecycle and validation, done once.

    A subclass implements `_open`, `_close`, `_describe` and `_infer`; it gets arrays whose names, dtypes and shapes are
    right. `infer` may be called from several threads at once.

    Args:
        artifact: What to run, or its path.
        options: How to run it.

    Raises:
        OptionError: An option that this runtime does not have.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)
    options_type: ClassVar[type[RuntimeOptions]] = RuntimeOptions

    def __init__(self, artifact: Artifact | str | os.PathLike[str], options: RuntimeOptions | None = None) -> None:
        self._artifact = artifact if isinstance(artifact, Artifact) else None
        self.path = artifact.path if isinstance(artifact, Artifact) else Path(artifact)
        self.options = options or self.options_type()
        self._signature: Signature | None = None
        self._process = 0
        if self.options.precision not in self.precisions:
            raise OptionError(
                f"{self.name} cannot run in {self.options.precision}", expected=" or ".join(self.precisions)
            )
        if not isinstance(self.options, self.options_type):
            raise OptionError(
                f"these are not options of the {self.name} runtime",
                got=type(self.options).__name__,
                expected=self.options_type.__name__,
            )

    @final
    def open(self) -> Self:
        """Loads the model. Opening an open runtime does nothing; where it fails, nothing stays loaded.

        Raises:
            RuntimeFailureError: The runtime refuses the model.
        """
        if self._signature is None:
            try:
                self._process = os.getpid()
                self._open()
                self._signature = self._describe()
            except BaseException:
                with contextlib.suppress(AttributeError):  # what had not come about yet
                    self._close()
                raise
        return self

    @final
    def close(self) -> None:
        """Frees the model. Closing twice does nothing."""
        if self._signature is not None:
            self._signature = None
            self._close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @final
    def describe(self) -> Signature:
        """The model's inputs and outputs.

        Raises:
            RuntimeFailureError: The runtime is not open.
        """
        if self._signature is None:
            raise RuntimeFailureError(
                f"the {self.name} runtime is not open", hint="use it in a `with` block, or call open() first"
            )
        if self._process != os.getpid():
            # The runtime's threads stayed in the other process: a batch would wait for them for ever.
            raise RuntimeFailureError(
                f"the {self.name} runtime was opened in another process",
                got=f"opened in {self._process}, used in {os.getpid()}",
                hint="open it after the fork, in each process of its own",
            )
        return self._signature

    @final
    def infer(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one batch.

        Args:
            batch: An array for each input, of the dtype and shape that `describe` tells.

        Returns:
            An array for each output.

        Raises:
            RuntimeFailureError: A wrong name, dtype or shape, or the runtime failed.
        """
        signature = self.describe()
        inputs = signature.inputs
        if batch.keys() != {info.name for info in inputs}:
            raise RuntimeFailureError(
                "the batch does not have the model's inputs",
                got=", ".join(batch) or "no arrays",
                expected=", ".join(info.name for info in inputs),
            )
        for info in inputs:
            array = batch[info.name]
            if not info.fits(array):
                raise RuntimeFailureError(
                    f"the batch does not fit the model's input {info.name}",
                    got=f"{array.dtype} {list(array.shape)}",
                    expected=str(info),
                )
        outputs = self._infer({name: np.ascontiguousarray(array) for name, array in batch.items()})
        described = {info.name: info for info in signature.outputs}
        for name, array in outputs.items():
            info = described[name]
            if not info.fits(array):
                raise RuntimeFailureError(
                    f"the {self.name} runtime gave another output than it had said",
                    got=f"{array.dtype} {list(array.shape)}",
                    expected=str(info),
                    hint=remedy_for(self.path),
                )
        return outputs

    @property
    def artifact(self) -> Artifact:
        """What is run.

        Raises:
            ArtifactError: As `Artifact.open`.
        """
        if self._artifact is None:
            self._artifact = Artifact.open(self.path)
        return self._artifact

    @property
    def spec(self) -> ModelSpec:
        """The spec of the open model."""
        return self.artifact.spec

    @property
    def hardware(self) -> str:
        """What the open model runs on, where that is not the processor."""
        return ""

    def versions(self) -> dict[str, str]:
        """The libraries that this runtime consists of, with their versions."""
        return {}

    @abc.abstractmethod
    def _open(self) -> None: ...

    @abc.abstractmethod
    def _close(self) -> None: ...

    @abc.abstractmethod
    def _describe(self) -> Signature: ...

    @abc.abstractmethod
    def _infer(self, batch: dict[str, Array]) -> dict[str, Array]: ...
