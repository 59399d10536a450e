from __future__ import annotations

import hashlib
import os
import resource
import signal
from pathlib import Path

import pytest

from vitrify.errors import StorageError
from vitrify.files import atomic_path, atomic_write, require_writable, sha256_of


def test_a_file_appears_whole_and_in_new_folders(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.txt"
    atomic_write(target, "väl")
    assert target.read_bytes() == "väl".encode()
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_a_failure_leaves_the_target_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            assert temporary.suffix == ".bin"
            temporary.write_bytes(b"half of the new")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_too_large_for_the_disk(tmp_path: Path) -> None:
    # The kernel's own limit on file size stands in for a full disk: a real short write, not a mock.
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(StorageError, match="cannot write"):
            atomic_write(target, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_directory_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="a directory"):
        atomic_write(tmp_path, b"x")


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageError, match="cannot write"):
        atomic_write(tmp_path / "file" / "a.txt", b"x")


def test_an_unreadable_input_keeps_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="input"), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "input.txt").read_bytes()


def test_sha256(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_what_cannot_be_written_is_known_before_and_nothing_is_left(tmp_path: Path) -> None:
    require_writable(tmp_path / "a.onnx")
    require_writable(tmp_path / "new" / "folder" / "a.onnx")
    (tmp_path / "file").write_text("no folder")
    for target in (tmp_path / "file" / "a.onnx", tmp_path / "file" / "new" / "a.onnx"):
        with pytest.raises(StorageError, match=r"a\.onnx") as caught:
            require_writable(target)
        assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
