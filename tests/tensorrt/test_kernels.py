"""Kernels that TensorRT-RTX compiles while it runs, kept between processes; over a stand-in for its binding."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cuda.fake_cuda import L4, FakeCuda
from tests.tensorrt.conftest import Machine
from tests.tensorrt.running import assert_right, build, images
from vitrify.runtimes.tensorrt import TensorRtOptions, TensorRtRuntime


@pytest.fixture
def rtx_engine(machine: Machine, artifact: Path, tmp_path: Path) -> Path:
    machine.use(FakeCuda(L4), "1.7.1.116", "rtx")
    folder = tmp_path / "engine"
    folder.mkdir()
    return build(artifact, folder)


def run(path: Path, kernel_cache: str) -> None:
    with TensorRtRuntime(path, TensorRtOptions(kernel_cache=kernel_cache)) as runtime:
        batch = images(2)
        assert_right(runtime.infer({"image": batch})["logits"], batch)
        with runtime.session(1), runtime.session(1):  # all contexts share the cache
            pass


def test_kernels_are_kept_by_version_and_gpu(machine: Machine, rtx_engine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    for kept in (b"1.7:++", b"1.7:++++"):
        run(rtx_engine, str(folder))
        (file,) = folder.iterdir()
        assert file.name == "1.7.1.116_NVIDIA_L4_sm89.kernels"
        assert file.read_bytes() == kept
    file.write_bytes(b"1.6:")  # what TensorRT-RTX refuses counts as none
    run(rtx_engine, str(folder))
    assert file.read_bytes() == b"1.7:++"


def test_where_kernels_are_kept_and_not(rtx_engine: Path, tmp_path: Path) -> None:
    default = tmp_path / "cache" / "vitrify" / "tensorrt"
    before = set(default.glob("*.kernels"))  # the build's own comparison ran it too
    assert [file.name for file in before] == ["1.7.1.116_NVIDIA_L4_sm89.kernels"]
    (kept,) = before
    kept.unlink()
    run(rtx_engine, "none")
    assert not kept.exists()
    run(rtx_engine, "auto")
    assert kept.exists()


def test_kernels_that_cannot_be_kept_lose_no_answer(rtx_engine: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    run(rtx_engine, str(tmp_path / "file"))


def test_other_releases_compile_none(engine: Path, tmp_path: Path) -> None:
    run(engine, str(tmp_path / "kernels"))
    assert not (tmp_path / "kernels").exists()
