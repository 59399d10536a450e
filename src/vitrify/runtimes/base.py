"""What every inference runtime is: a context manager with `describe` and `infer`."""

from __future__ import annotations

import abc
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import Artifact
from vitrify.errors import ImageError, OptionError, RuntimeFailureError
from vitrify.pixels import Decoders
from vitrify.pixels.batches import StoredImage
from vitrify.spec import ModelSpec, Precision

if TYPE_CHECKING:
    from typing_extensions import Self

Array = npt.NDArray[Any]

PixelsOn: TypeAlias = Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """How a runtime should run a model.

    Attributes:
        precision: Arithmetic of the runtime: fp32 is exact; bf16 only where the runtime and the processor have it.
        threads: Threads inside one inference; by default what the runtime chooses.
        dequantize: Whether an 8-bit ONNX file multiplies its rounded numbers in fp32: right on every processor, and
            slower.
        device: The runtime's own name for a device, such as cpu or cuda.
        like: A spec of the same model; tells a foreign checkpoint's architecture, head count and labels where its
            tensors do not. Artifacts carry their own and do not look at it.
        trusted: Run a TensorRT plan that has no manifest. A plan can carry code: only what you made yourself. Where
            there is a manifest, the plan is held to it all the same.
        pixels: Where images are resized, cropped and normalised, to the same tensors: `cpu`, `gpu`, which an engine has
            to run on, or `auto`: the GPU where that can be.
        cuda_graphs: Whether TensorRT runs repeated batch sizes as recorded graphs, which small batches are faster with.
        kernel_cache: Folder of the kernels that TensorRT-RTX compiles while it runs, a file for each version and GPU;
            `auto` is vitrify's cache folder, `none` keeps nothing.
    """

    precision: Precision = "fp32"
    threads: int | None = None
    dequantize: bool = False
    device: str = "cpu"
    like: ModelSpec | None = None
    trusted: bool = False
    cuda_graphs: bool = True
    kernel_cache: str = "auto"
    pixels: PixelsOn = "auto"


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
    """The inputs and outputs of a model."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


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
    has_gpu_pixels: ClassVar[bool] = False
    """Whether `pixels="gpu"` can be asked for."""

    def __init__(self, artifact: Artifact | str | os.PathLike[str], options: RuntimeOptions | None = None) -> None:
        self._artifact = artifact if isinstance(artifact, Artifact) else None
        self.path = artifact.path if isinstance(artifact, Artifact) else Path(artifact)
        self.options = options or RuntimeOptions()
        self._signature: Signature | None = None
        self._process = 0
        if self.options.precision not in self.precisions:
            raise OptionError(
                f"{self.name} cannot run in {self.options.precision}", expected=" or ".join(self.precisions)
            )
        if self.options.pixels == "gpu" and not self.has_gpu_pixels:
            raise OptionError(
                f"images cannot be prepared on the GPU for the {self.name} runtime",
                got="pixels=gpu",
                expected="an engine on a GPU",
                hint="leave the option out, or build an engine: vitrify build",
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
                    hint=self.remedy,
                )
        return outputs

    @property
    def prepares_images(self) -> bool:
        """Whether the open model takes images by `infer_images`."""
        return False

    def infer_images(
        self, images: Sequence[StoredImage], spec: ModelSpec, decoders: Decoders
    ) -> tuple[Array, list[ImageError | None]]:
        """Decodes images on the CPU, prepares them where the model runs, and infers.

        May be called from several threads at once, which is how decoding, copying and inference overlap.

        Args:
            images: Opened for `spec.preprocess`; each can be used once. At most `fitting_batch(len(images))` of them.
            spec: Of the model.
            decoders: Whose threads decode.

        Returns:
            `[images, classes]` in the output's dtype, and for each image None, or what is wrong with it; the row of
            such an image means nothing.

        Raises:
            RuntimeFailureError: This runtime prepares no images, or it failed.
        """
        raise RuntimeFailureError(f"the {self.name} runtime prepares no images", hint="preprocess them on the CPU")

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

    @classmethod
    def load_libraries(cls, path: Path) -> None:
        """Imports what opening a file would import, and finds its device: neither is the model's own time or memory.

        Raises:
            MissingExtraError, DeviceError, ArtifactError: As opening it would.
        """
        del path  # most runtimes import theirs with their own module

    @classmethod
    def device_bytes(cls) -> int | None:
        """Memory of the device that is in use, by whomever; None where models run on the processor.

        Raises:
            DeviceError: The device does not answer.
        """
        return None

    @property
    def hardware(self) -> str:
        """What the open model runs on, where that is not the processor."""
        return ""

    @property
    def remedy(self) -> str:
        """What a user does when the artifact turns out to be damaged or another model's."""
        return "export the artifact again"

    def fitting_batch(self, count: int) -> int:
        """The batch size to run `count` images with: `count`, the next larger that is accepted, or the largest."""
        return count

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Where the artifact accepts certain batch sizes only, the ends of what it accepts: what ships has to run."""
        return ()

    @property
    def source(self) -> Path | None:
        """The file that the artifact was made from, where it is at hand and unchanged, and can be run."""
        return None

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
