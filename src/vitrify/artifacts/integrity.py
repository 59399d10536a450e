"""The digest by which a file tells that it is whole: of all its bytes, with the digest's own digits as zeros."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

from vitrify.errors import ArtifactError, SpecError
from vitrify.spec import ModelSpec

_BLANK = "0" * hashlib.sha256().digest_size * 2


def unsealed(spec: ModelSpec) -> ModelSpec:
    """The spec to write into a file that `seal` completes."""
    return spec.replace(file_sha256=_BLANK)


def seal(path: str | os.PathLike[str]) -> None:
    """Writes a file's digest into the spec that it carries, in place.

    Args:
        path: A file that was written with an `unsealed` spec, and that nobody else reads yet.

    Raises:
        SpecError: No such spec in it.
    """
    with Path(path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        key = content.rfind(b"file_sha256")
        place = content.find(_BLANK.encode(), key) if key >= 0 else -1
        if place < 0:
            raise SpecError(f"{path} has no place for its digest", expected="a spec that is unsealed")
        content[place : place + len(_BLANK)] = hashlib.sha256(content).hexdigest().encode()


def require_sealed(path: str | os.PathLike[str], spec: ModelSpec) -> None:
    """Holds a file to the digest in its spec; without one there is nothing to hold it to.

    Args:
        path: The file.
        spec: That was read from it.

    Raises:
        ArtifactError: Its bytes are not those that were written.
    """
    if not spec.file_sha256:
        return
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.rfind(spec.file_sha256.encode())
        view = memoryview(content)
        try:
            digest = hashlib.sha256(view[: max(place, 0)])
            digest.update(_BLANK.encode())
            digest.update(view[max(place, 0) + len(_BLANK) :])
        finally:
            view.release()
        if place < 0 or digest.hexdigest() != spec.file_sha256:
            raise ArtifactError(
                f"{path} is not the file that was written",
                got=f"sha256 {digest.hexdigest()[:12]}…",
                expected=f"{spec.file_sha256[:12]}…, which its spec names",
                hint="copy it again; or export the checkpoint again",
            )
