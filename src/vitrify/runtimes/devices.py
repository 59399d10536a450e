"""What a runtime may do besides, where its model runs on a device of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from vitrify.errors import ImageError
from vitrify.pixels import Decoders
from vitrify.pixels.batches import StoredImage
from vitrify.runtimes.base import Array, Runtime
from vitrify.spec import ModelSpec

PixelsOn: TypeAlias = Literal["auto", "cpu", "gpu"]


@runtime_checkable
class PreparesImages(Protocol):
    """Prepares images where the model runs."""

    def prepares_images(self) -> bool:
        """Whether the open model takes images, here and now."""

    def infer_images(
        self, images: Sequence[StoredImage], spec: ModelSpec, decoders: Decoders
    ) -> tuple[Array, list[ImageError | None]]:
        """Decodes images on the CPU, prepares them where the model runs, and infers.

        May be called from several threads at once, which is how decoding, copying and inference overlap.

        Args:
            images: Opened for `spec.preprocess`; each can be used once. At most the batch that fits their number.
            spec: Of the model.
            decoders: Whose threads decode.

        Returns:
            `[images, classes]` in the output's dtype, and for each image None, or what is wrong with it; the row of
            such an image means nothing.

        Raises:
            RuntimeFailureError: The runtime failed.
        """


@runtime_checkable
class OnDevice(Protocol):
    """Has memory of its own, which `vitrify bench` asks for before anything is opened."""

    @classmethod
    def load_libraries(cls, path: Path) -> None:
        """Imports what opening a file would import, and finds its device: neither is the model's own time or memory.

        Raises:
            MissingExtraError, DeviceError, ArtifactError: As opening it would.
        """

    @classmethod
    def device_bytes(cls) -> int:
        """Memory of the device that is in use, by whomever.

        Raises:
            DeviceError: The device does not answer.
        """


def preparer(runtime: Runtime) -> PreparesImages | None:
    """An open runtime as one that prepares images; None where it does not."""
    return runtime if isinstance(runtime, PreparesImages) and runtime.prepares_images() else None
