from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitrify.errors import FolderInUseError, StorageError
from vitrify.files import atomic_path, atomic_write, locked_folder, require_writable, sha256_of


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


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_a_new_file_has_what_the_umask_leaves_whatever_its_writer_gave_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "a.safetensors") as temporary:
            temporary.write_bytes(b"x")
            temporary.chmod(0o600)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a.safetensors") == 0o666 & ~umask


def test_a_file_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"old")
    (tmp_path / "secret").chmod(0o640)
    atomic_write(tmp_path / "secret", b"new")
    assert mode_of(tmp_path / "secret") == 0o640


def test_a_link_stays_and_what_it_leads_to_changes(tmp_path: Path) -> None:
    (volume := tmp_path / "volume").mkdir()
    (volume / "model.onnx").write_bytes(b"old")
    for name, target in (("absolute", volume / "model.onnx"), ("relative", Path("volume/model.onnx"))):
        (tmp_path / name).symlink_to(target)
        atomic_write(tmp_path / name, name)
        assert (tmp_path / name).is_symlink()
        assert (volume / "model.onnx").read_text() == name
    (tmp_path / "dangling").symlink_to(volume / "later.onnx")
    atomic_write(tmp_path / "dangling", b"new")
    assert sorted(path.name for path in volume.iterdir()) == ["later.onnx", "model.onnx"]


def test_links_and_files_that_cannot_be_written_to_are_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for name, says in (("loop", "itself"), ("folder", "a directory"), ("pipe", "a device or a pipe")):
        for write in (lambda path: atomic_write(path, b"x"), require_writable):
            with pytest.raises(StorageError, match=says):
                write(tmp_path / name)
    with pytest.raises(StorageError, match="a device or a pipe"):
        atomic_write("/dev/null", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "loop", "pipe"]


HOLD = """
import sys, time
from pathlib import Path
from vitrify.files import locked_folder
with locked_folder(Path(sys.argv[1])):
    Path(sys.argv[1], "run").touch()
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_folder_is_held_by_one_process_until_it_ends_however_it_does(tmp_path: Path, end: signal.Signals) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUseError, match=rf"process {holder.pid} holds it") as caught, locked_folder(folder):
            pass
        assert caught.value.exit_code == 2
        holder.send_signal(end)
    with locked_folder(folder):
        assert (folder / ".lock").read_text() == f"{os.getpid()}\n"
    assert [path.name for path in folder.iterdir()] == ["run"]


def test_a_folder_that_nothing_was_put_into_goes_again(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "a" / "b"):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write to"), locked_folder(tmp_path / "file" / "b"):
        pass
