"""Builds the C++ release preset once and opens its library with ctypes."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from tests.cpp.library import Library

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Runs a command that has to succeed; gives its output."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.fixture(autouse=True)
def verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the self-test's verdicts are kept: of each test its own, and never the user's."""
    monkeypatch.setenv("VITRIFY_CACHE", str(tmp_path / "verdicts"))
    return tmp_path / "verdicts" / "self-test"


@pytest.fixture(scope="session")
def release() -> Path:
    """The build folder of the release preset, built."""
    run("cmake", "--preset", "release", "-DVITRIFY_WERROR=ON")
    run("cmake", "--build", "--preset", "release", "--parallel", "2")
    return ROOT / "build" / "release"


@pytest.fixture(scope="session")
def installed(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is installed."""
    prefix = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", release, "--prefix", prefix)
    return prefix


@pytest.fixture(scope="session")
def program(release: Path) -> Path:
    """vitrify-classify."""
    return release / "bin" / "vitrify-classify"


@pytest.fixture(scope="session")
def library(release: Path) -> Library:
    """libvitrify through its C interface."""
    return Library(ctypes.CDLL(str(next(release.glob("lib*/libvitrify.so")))))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The committed artifact."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes((GOLDEN / "tiny.onnx").read_bytes())
    return path
