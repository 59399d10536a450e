"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
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
    target = Path(target)
    if target.is_dir():
        raise StorageError(
            f"cannot write {target}", got="a directory", expected="a file name", hint=f"name a file in {target}/"
        )
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    except OSError as error:
        # Only this file's own failures: an unreadable input inside the block keeps its own error.
        if error.filename is None or Path(str(error.filename)) in (temporary, target, target.parent):
            raise StorageError(
                f"cannot write {target}",
                got=error.strerror or error,
                hint=f"check the space and rights of {target.parent}",
            ) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # it is not there after success, and cannot be where its folder is a file
            temporary.unlink()


def atomic_write(target: str | os.PathLike[str], data: bytes | str) -> None:
    """Writes `data` (text as UTF-8) to `target`, whole or not at all.

    Raises:
        StorageError: The file cannot be written; what stood there is still there.
    """
    with atomic_path(target) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits, read in blocks."""
    with Path(path).open("rb") as file:
        if hasattr(hashlib, "file_digest"):
            return str(hashlib.file_digest(file, "sha256").hexdigest())
        digest = hashlib.sha256()  # Python 3.10
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()
