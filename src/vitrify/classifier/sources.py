"""What a user names on a command line, to images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import Image

from vitrify.errors import InputError, OptionError
from vitrify.pixels import IMAGE_SUFFIXES, ImageSource, native_source
from vitrify.pixels.limits import DEFAULT_LIMITS

T = TypeVar("T")

_SIGNATURES = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"BM", b"GIF8")


def as_images(images: ImageSource | Iterable[ImageSource]) -> Iterable[ImageSource]:
    """Several images, where one may have been given.

    Args:
        images: An image, or any iterable of images: a list, a generator, an `[N, H, W, 3]` array, a column.

    Raises:
        OptionError: What gives names when it is iterated, not images: a DataFrame or a dictionary. Or nothing of all
            this.
    """
    if isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Image.Image) or hasattr(images, "read"):
        return [images]  # type: ignore[list-item]
    dimensions = getattr(images, "ndim", None)
    if isinstance(images, Mapping) or (hasattr(images, "columns") and hasattr(images, "shape")):
        raise OptionError(
            "which images are meant?",
            got=type(images).__name__,
            expected="images or paths",
            hint="pass the column that holds the paths, such as frame['path']",
        )
    if dimensions in (2, 3) or (dimensions == 1 and getattr(getattr(images, "dtype", None), "name", "") == "uint8"):
        return [images]  # type: ignore[list-item]
    if not isinstance(images, Iterable):
        raise OptionError("no images", got=type(images).__name__, expected="an image, or an iterable of images")
    return images


def expand_sources(names: ImageSource | Iterable[ImageSource], *, stdin: BinaryIO | None = None) -> list[ImageSource]:
    """Turns files, folders, globs and `-` into images.

    Args:
        names: One or several. A file is taken as it is, whatever its suffix; a folder is searched at every depth; a
            name with `*`, `?` or `[` that is no file is a glob, with `**` for every depth; `-` is standard input, which
            holds either one encoded image or paths, one a line or each ended by a NUL. An image that is no name is
            taken as it is, and an open file is read.
        stdin: Where `-` is read.

    Returns:
        Paths in order, sorted within a folder or glob, and encoded bytes for an image on standard input.

    Raises:
        InputError: A name that gives no image. A named file that cannot be read is no error here but a failure of that
            image.
    """
    images: list[ImageSource] = []
    for name in as_images(names):
        if isinstance(name, str | os.PathLike):
            images += _expand(os.fspath(name), stdin)
        else:  # what can be read once is read here: these images are needed several times
            images.append(native_source(name, DEFAULT_LIMITS) if hasattr(name, "read") else name)
    return images


def _expand(name: str, stdin: BinaryIO | None) -> Iterator[ImageSource]:
    path = Path(name)
    if name == "-":
        data = stdin.read() if stdin else b""
        if data.startswith(_SIGNATURES):
            yield data
            return
        text = data.decode(errors="surrogateescape")
        # `find -print0` ends each name with a NUL, since names may hold line breaks.
        names = [line for line in (text.split("\0") if "\0" in text else text.splitlines()) if line]
        if not names:
            raise InputError("standard input is empty", expected="an encoded image, or one path a line")
        yield from names
    elif path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not found:
            raise InputError(f"no images in {name}/", expected="files ending in " + ", ".join(IMAGE_SUFFIXES))
        yield from map(str, found)
    elif not path.exists() and glob.has_magic(name):
        matched = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        matches = sorted(match for match in matched if Path(match).is_file())
        if not matches:
            raise InputError(f"nothing matches {name}", hint="check the pattern")
        yield from matches
    else:
        yield name


def pick_evenly(images: Sequence[T], limit: int) -> list[T]:
    """At most `limit` images, evenly spread over the sequence, so that sorted class folders all have their share."""
    if len(images) <= limit:
        return list(images)
    return [images[index * len(images) // limit] for index in range(limit)]
