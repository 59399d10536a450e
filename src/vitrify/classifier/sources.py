"""What a user names on a command line, to images."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from vitrify.errors import InputError
from vitrify.pixels import IMAGE_SUFFIXES, ImageSource

T = TypeVar("T")

_SIGNATURES = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"BM", b"GIF8")


def expand_sources(names: Iterable[str], *, stdin: BinaryIO | None = None) -> list[ImageSource]:
    """Turns files, folders, globs and `-` into images.

    Args:
        names: A file is taken as it is, whatever its suffix; a folder is searched at every depth; a name with `*`, `?`
            or `[` that is no file is a glob, with `**` for every depth; `-` is standard input, which holds either one
            encoded image or paths, one a line or each ended by a NUL.
        stdin: Where `-` is read.

    Returns:
        Paths in order, sorted within a folder or glob, and encoded bytes for an image on standard input.

    Raises:
        InputError: A name that gives no image. A named file that cannot be read is no error here but a failure of that
            image.
    """
    images: list[ImageSource] = []
    for name in names:
        images += _expand(name, stdin)
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
