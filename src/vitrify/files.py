"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vitrify.errors import StorageError

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def no_room(error: BaseException) -> bool:
    """Whether an error means that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path beside `target` to write to, and moves it onto `target` when the block succeeds.

    On any failure, Ctrl-C included, the temporary file goes and `target` is left as it was. The temporary file keeps
    `target`'s suffix, because writers such as OpenVINO choose a format by it.

    Args:
        target: The file that is to appear. Its folder is made if needed.

    Yields:
        The temporary path, in the folder of `target`.

    Raises:
        StorageError: The target is a directory, or the disk is full or not writable.
    """
    with atomic_paths(target) as (temporary,):
        yield temporary


@contextlib.contextmanager
def atomic_paths(*targets: str | os.PathLike[str]) -> Iterator[tuple[Path, ...]]:
    """`atomic_path` for files that belong together.

    All are on the disk before the first is moved, and the moves follow each other at once, in the order of `targets`.
    No file system moves two files in one step: choose an order whose beginning is refused by whoever reads them.

    Raises:
        StorageError: As `atomic_path`.
    """
    wanted = [Path(target) for target in targets]
    for target in wanted:
        if target.is_dir():
            raise StorageError(
                f"cannot write {target}", got="a directory", expected="a file name", hint=f"name a file in {target}/"
            )
    paths = {target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}"): target for target in wanted}
    try:
        for target in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
        yield tuple(paths)
        for temporary in paths:
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
        for temporary, target in paths.items():
            temporary.replace(target)
    except OSError as error:
        # Only these files' own failures: an unreadable input inside the block keeps its own error.
        failed = Path(str(error.filename)) if error.filename is not None else None
        for temporary, target in paths.items():
            if failed in (None, temporary, target, target.parent):
                raise StorageError(
                    f"cannot write {target}",
                    got=error.strerror or error,
                    hint=f"check the space and rights of {target.parent}",
                ) from error
        raise
    finally:
        for temporary in paths:
            with contextlib.suppress(OSError):  # not there after success, and nowhere where its folder is a file
                temporary.unlink()


def atomic_write(target: str | os.PathLike[str], data: bytes | str) -> None:
    """Writes `data` (text as UTF-8) to `target`, whole or not at all.

    Raises:
        StorageError: The file cannot be written; what stood there is still there.
    """
    with atomic_path(target) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def require_writable(target: str | os.PathLike[str]) -> None:
    """Refuses a target that cannot be written, before work is done that would be lost. Leaves nothing behind.

    Whether the disk will hold the whole file is known only when it is written.

    Args:
        target: The file that is to appear; where its folder is not there, the nearest one above it is tried.

    Raises:
        StorageError: No file can be made there.
    """
    target = Path(target)
    try:
        above = next(folder for folder in (target.parent, *target.parent.absolute().parents) if folder.exists())
        with tempfile.TemporaryFile(dir=above) as written:
            written.write(b"0")
    except OSError as error:
        raise StorageError(
            f"cannot write {target}",
            got=error.strerror or error,
            hint=f"check the space and rights of {target.parent}",
        ) from error


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits, read in blocks."""
    with Path(path).open("rb") as file:
        if hasattr(hashlib, "file_digest"):
            return str(hashlib.file_digest(file, "sha256").hexdigest())
        digest = hashlib.sha256()  # Python 3.10
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()
