"""Images of any kind to the network's input tensor."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitrify import _native
from vitrify.errors import ImageError
from vitrify.machine import available_threads
from vitrify.pixels.decode import decode, rgb_from_pillow
from vitrify.pixels.limits import DEFAULT_LIMITS, DecodeLimits, image_error, native_limits
from vitrify.pixels.resize import checked_rgb
from vitrify.spec import Preprocess


class ArrayLike(Protocol):
    """An array of another library, such as a PyTorch tensor."""

    def __array__(self) -> npt.NDArray[Any]:
        """The same for NumPy."""


ImageSource: TypeAlias = (
    bytes | bytearray | memoryview | BinaryIO | str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8] | ArrayLike
)
"""Encoded bytes, an open binary file of them, a path, a PIL image, or `[H, W, 3]` uint8 RGB."""

StoredImage: TypeAlias = _native.StoredImage
"""An image whose header was read: width and height as stored, and EXIF's orientation, 1 to 8."""

Window: TypeAlias = _native.Window
"""The part of a stored image that its crop is made of, and where it has to lie among the batch's pixels."""


class Decoders:
    """Threads of the native core that prepare the images of a batch, or open and decode them, without Python's lock.

    Any number of Python threads may use them at once.

    Args:
        threads: How many, the caller's included.
    """

    def __init__(self, threads: int) -> None:
        self._workers = _native.Workers(threads)

    def prepare(
        self,
        sources: Sequence[bytes | npt.NDArray[np.uint8]],
        spec: Preprocess,
        out: npt.NDArray[np.float32],
        *,
        limits: DecodeLimits = DEFAULT_LIMITS,
        fast_decode: bool = False,
    ) -> list[ImageError | None]:
        """Decodes, resizes, crops and normalises, to the tensors of `vitrify.pixels.preprocess`.

        Args:
            sources: As for `open`.
            spec: How.
            out: `[sources, 3, crop_height, crop_width]` float32, which is written to.
            limits: What an encoded image may ask for.
            fast_decode: As for `preprocess`.

        Returns:
            None for each image, or what is wrong with it; its row then holds anything.
        """
        failures = _native.preprocess(
            list(sources), native_spec(spec), native_limits(limits), fast_decode, out, self._workers
        )
        return [image_error(*failure) if failure else None for failure in failures]

    def open(
        self,
        sources: Sequence[bytes | npt.NDArray[np.uint8]],
        spec: Preprocess,
        *,
        limits: DecodeLimits = DEFAULT_LIMITS,
    ) -> list[StoredImage | ImageError]:
        """Reads the headers.

        Args:
            sources: Encoded bytes that the native core decodes, or `[H, W, 3]` uint8 RGB, which has to stay as it is.
            spec: Of the resize, which refuses some sizes.
            limits: What an encoded image may ask for.

        Returns:
            For each, an image that can be decoded once, or why not.
        """
        opened = self._workers.open(list(sources), native_spec(spec), native_limits(limits))
        return [image_error(*one) if isinstance(one, tuple | list) else one for one in opened]

    def decode(
        self, images: Sequence[StoredImage], windows: Sequence[Window], memory: npt.NDArray[np.uint8]
    ) -> list[ImageError | None]:
        """Writes each image's window, as it is stored, where the window says.

        Args:
            images: What `open` gave; each once.
            windows: What `BatchPlan.fill` gave for them.
            memory: `[bytes]` uint8, of `BatchPlan.pixel_bytes` or more.

        Returns:
            None for each image, or what is wrong with it; its window then holds anything.
        """
        failures = self._workers.decode(list(images), list(windows), memory)
        return [image_error(*failure) if failure else None for failure in failures]


def preprocess(
    images: Sequence[ImageSource],
    spec: Preprocess,
    *,
    threads: int | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    fast_decode: bool = False,
) -> npt.NDArray[np.float32]:
    """Decodes, resizes, crops and normalises a batch.

    The result equals timm's and torchvision's evaluation transform to the last bit. Rows of a JPEG, PNG or BMP go
    from the decoder straight into the resize, and no pixel is computed that the crop drops.

    Args:
        images: What to prepare.
        spec: How.
        threads: Threads that prepare the images, without Python's lock; by default one a core. Where there are fewer
            images than threads, a large baseline JPEG is decoded on several. The tensors are the same.
        limits: What an encoded image may ask for; checked before memory is taken for its pixels.
        fast_decode: Let libjpeg decode at 1/2, 1/4 or 1/8 where the image is at least twice as large as needed even
            so. Faster, and no longer Pillow's pixels.

    Returns:
        `[B, 3, crop_height, crop_width]` float32 NCHW RGB.

    Raises:
        ImageError: One of the images cannot be read; the message names it.
    """
    threads = max(1, threads or available_threads())
    readers = min(len(images), threads)
    if readers <= 1 or all(map(_is_native, images)):
        sources = [native_source(image, limits) for image in images]
    else:
        with ThreadPoolExecutor(readers) as pool:
            sources = list(pool.map(native_source, images, [limits] * len(images)))
    batch = np.empty((len(images), 3, spec.crop_height, spec.crop_width), np.float32)
    failures = Decoders(threads).prepare(sources, spec, batch, limits=limits, fast_decode=fast_decode)
    for image, failure in zip(images, failures, strict=True):
        if failure is not None:
            raise named(failure, image)
    return batch


def read_rgb(image: ImageSource, *, limits: DecodeLimits = DEFAULT_LIMITS) -> npt.NDArray[np.uint8]:
    """The pixels of an image of any supported kind, `[H, W, 3]` uint8 RGB.

    Raises:
        ImageError: It cannot be read, or an array is not `[H, W, 3]` uint8.
    """
    source = native_source(image, limits)
    if not isinstance(source, bytes):
        return source
    try:
        return decode(source, limits=limits)
    except ImageError as error:
        raise named(error, image) from error


def native_source(image: ImageSource, limits: DecodeLimits) -> bytes | npt.NDArray[np.uint8]:
    """What the native core takes: encoded bytes that it decodes as they are, anything else as pixels.

    Raises:
        ImageError: It cannot be read; the message names it.
    """
    if isinstance(image, Image.Image):
        return rgb_from_pillow(image)
    if hasattr(image, "__array__") and not isinstance(image, str | bytes):  # NumPy has words of its own
        return checked_rgb(_pixels(image))
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
    elif isinstance(image, str | os.PathLike):
        data = _read(Path(image), limits)
    elif hasattr(image, "read"):
        data = _read_open(image, limits)
    else:  # None, NaN: what columns of paths have holes of
        raise ImageError("no image", got=repr(image), expected=_KINDS)
    try:
        return data if _native.decodable_format(data) else decode(data, limits=limits)
    except ImageError as error:
        raise named(error, image) from error


_KINDS = "a path, an open binary file, encoded bytes, a PIL image, or [H, W, 3] uint8 RGB"


def _pixels(image: Any) -> npt.NDArray[np.uint8]:
    """An array of any library as `[H, W, 3]` uint8; what has to be guessed at is refused.

    Raises:
        ImageError: Floats, whose range nothing tells; channels first; no three channels; not in the host's memory.
    """
    try:
        array = np.asarray(image)
    except (TypeError, RuntimeError, ValueError) as error:  # on a GPU, or with a gradient
        raise ImageError(
            "the image cannot become a NumPy array",
            got=str(error).splitlines()[0],
            expected="[H, W, 3] uint8 in the host's memory",
            hint="pass image.detach().cpu()",
        ) from error
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return array
    hints = []
    if array.dtype == np.uint8 and array.ndim == 1:
        hints.append("encoded bytes: pass array.tobytes()")
    elif array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (3, 4):
        hints.append("channels first: transpose to [H, W, C], array.transpose(1, 2, 0) or tensor.permute(1, 2, 0)")
    elif array.ndim == 2:
        hints.append("grey: repeat it, np.stack([grey] * 3, axis=2)")
    elif array.ndim == 3 and array.shape[2] == 4:
        hints.append("drop alpha: array[:, :, :3]")
    if array.dtype.kind == "f":
        hints.append("floats have no range that is known: of 0 to 1, (array * 255).round().astype('uint8')")
    raise ImageError(
        "not an RGB image array: pass uint8 HWC",
        got=f"{list(array.shape)} {array.dtype}",
        expected="[H, W, 3] uint8",
        hint="; ".join(hints) or "pass RGB pixels, or the encoded file's bytes",
    )


def _read_open(file: Any, limits: DecodeLimits) -> bytes:
    name = source_name(file) or "the open file"
    try:
        data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read {name}", got=error, expected="a file that is open for reading") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageError(f"{name} is open as text", expected="a binary file", hint='open(path, "rb")')
    if not data:
        raise ImageError(f"{name} is empty, or read to its end", hint="rewind it: file.seek(0)")
    limits.check_bytes(len(data))
    return bytes(data)


def source_name(image: object) -> str | None:
    """An image's path, where it has one: its own, or that of an open file."""
    if not isinstance(image, str | os.PathLike) and hasattr(image, "read"):
        image = getattr(image, "name", None)
    return os.fsdecode(image) if isinstance(image, str | os.PathLike) else None


def _is_native(image: ImageSource) -> bool:
    """Whether the native core takes it as it is; a pool that makes it so would cost more than it gives."""
    return isinstance(image, np.ndarray) or (isinstance(image, bytes) and bool(_native.decodable_format(image)))


def _read(path: Path, limits: DecodeLimits) -> bytes:
    try:
        limits.check_bytes(path.stat().st_size)
        return path.read_bytes()
    except ImageError as error:
        raise named(error, path) from None
    except IsADirectoryError as error:
        raise ImageError(f"{path} is a directory", expected="an image file") from error
    except OSError as error:
        raise ImageError(f"cannot read {path}", got=error.strerror or error) from error
    except ValueError as error:  # a NUL in the name
        raise ImageError(f"cannot read {str(path)!r}", got=error) from error


def named(error: ImageError, image: ImageSource) -> ImageError:
    """The error with the image's path in front, where it has one."""
    name = source_name(image)
    if name is None or error.what.startswith(("cannot read", name)):
        return error
    return ImageError(f"{name}: {error.what}", got=error.got, expected=error.expected, hint=error.hint)


@functools.lru_cache(maxsize=16)
def native_spec(spec: Preprocess) -> _native.Preprocess:
    """The same for the native core."""
    return _native.Preprocess(
        _native.ResizeRule[spec.resize_rule],
        (spec.resize_width, spec.resize_height),
        (spec.crop_width, spec.crop_height),
        _native.Interpolation[spec.interpolation],
        spec.mean,
        spec.std,
        spec.fill,
    )
