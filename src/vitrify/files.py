"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vitrify.errors import FolderInUseError, StorageError

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def no_room(error: BaseException) -> bool:
    """Whether an error means that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path beside `target` to write to, and moves it onto `target` when the block succeeds.

    On any failure, Ctrl-C included, the temporary file goes and `target` is left as it was. The temporary file keeps
    `target`'s suffix, because writers such as OpenVINO choose a format by it. Otherwise `target` is what plain writing
    would make of it: a symbolic link stays, and the file that it leads to changes; a file that was there keeps its
    mode, and a new one has what the umask leaves of 666, whatever the writer gave it.

    Args:
        target: The file that is to appear. Its folder is made if needed.

    Yields:
        The temporary path, in the folder of `target`.

    Raises:
        StorageError: The target is a directory or a device, or the disk is full or not writable.
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
    wanted = [_led_to(Path(target)) for target in targets]
    paths = {target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}"): target for target in wanted}
    try:
        modes = {temporary: _mode(temporary, target) for temporary, target in paths.items()}
        yield tuple(paths)
        for temporary in paths:
            with temporary.open("rb+") as written:
                os.fchmod(written.fileno(), modes[temporary])
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


def _led_to(target: Path) -> Path:
    """The file that is to change: behind links, where `target` is one."""
    real = Path(os.path.realpath(target)) if target.is_symlink() else target
    if real.is_dir():
        raise StorageError(
            f"cannot write {target}", got="a directory", expected="a file name", hint=f"name a file in {real}/"
        )
    if real.is_symlink() or (real.exists() and not real.is_file()):
        got = "a link that leads nowhere but to itself" if real.is_symlink() else "a device or a pipe"
        raise StorageError(f"cannot write {target}", got=got, expected="a file name")
    return real


def _mode(temporary: Path, target: Path) -> int:
    """The mode that plain writing to `target` would give it. Its folder is made if needed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    # The umask cannot be read without being changed for every thread: a file that it was applied to tells.
    temporary.touch(exist_ok=False)
    mode = stat.S_IMODE(temporary.stat().st_mode)
    temporary.unlink()
    return mode


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
    target = _led_to(Path(target))
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


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Holds a folder for this process alone; it is made if needed, and goes again where nothing was put into it.

    The lock is the kernel's, on a file `.lock` that names the process: it ends with the process, however that ends, and
    no lock is ever left behind. Where the file system knows no locks, there is none.

    Raises:
        FolderInUseError: Another process holds it.
        StorageError: The folder cannot be made or written.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    path = folder / ".lock"
    descriptor = None
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = _lock(path)
        except OSError as error:
            raise StorageError(
                f"cannot write to {folder}", got=error.strerror or error, hint=f"check the space and rights of {folder}"
            ) from error
        yield
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)  # while it is locked: whoever waits for it sees that it is another one's
            os.close(descriptor)
        for each in missing:
            with contextlib.suppress(OSError):
                each.rmdir()


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return descriptor
            os.close(descriptor)
            raise FolderInUseError(
                f"{path.parent} is being written to",
                got=f"process {owner or 'unknown'} holds it",
                expected="a folder that no other run writes to",
                hint="wait until it is done, or name another folder with -o",
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return descriptor
        os.close(descriptor)  # its owner has just removed it


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits, read in blocks."""
    with Path(path).open("rb") as file:
        if hasattr(hashlib, "file_digest"):
            return str(hashlib.file_digest(file, "sha256").hexdigest())
        digest = hashlib.sha256()  # Python 3.10
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()
