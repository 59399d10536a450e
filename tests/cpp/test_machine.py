"""Threads and instruction sets, as the extension of Python says them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cpp.conftest import GOLDEN, ROOT
from vitrify import _native

CODE = "from vitrify import _native; print(_native.available_threads())"
THREADS = """
import ctypes, os, sys
sys.path.insert(0, "")
from tests.cpp.library import Library
before = len(os.listdir("/proc/self/task"))
with Library(ctypes.CDLL(sys.argv[1])).load(sys.argv[2]) as native:
    for _ in range(5):
        native.classify(sys.argv[3])
    print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity here")
def test_threads_follow_affinity() -> None:
    allowed = os.sched_getaffinity(0)
    assert 1 <= _native.available_threads() <= len(allowed)
    command = ["taskset", "-c", str(min(allowed)), sys.executable, "-c", CODE]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is all that there is")
def test_a_classifier_keeps_to_its_cores(release: Path) -> None:
    """OpenVINO starts a thread for each core that is allowed, and so does the rest."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    arguments = [next(release.glob("lib*/libvitrify.so")), GOLDEN / "tiny.onnx", GOLDEN / "images" / "rgb.jpg"]
    started = []
    for count in (1, 2):
        chosen = ",".join(map(str, cores[:count]))
        command: list[str | Path] = ["taskset", "-c", chosen, sys.executable, "-W", "ignore", "-c", THREADS, *arguments]
        started.append(int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout))
    assert started[0] < started[1]


def test_instruction_sets_are_linuxs() -> None:
    text = Path("/proc/cpuinfo").read_text()
    flags = next((line.split(":")[1].split() for line in text.splitlines() if line.startswith(("flags", "Feat"))), None)
    if flags is None:
        pytest.skip("/proc/cpuinfo says nothing")
    if "model name" in text and _native.processor_name() not in text:
        pytest.skip("an emulator, whose /proc/cpuinfo is the host's")
    names = "avx2 avx512f avx_vnni avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_int8 asimddp i8mm bf16"
    expected = [name for name in names.split() if name in flags]
    assert [name for name in _native.instruction_sets() if name != "neon"] == expected
    x86 = text.startswith("processor") and "vendor_id" in text
    exact = {"avx_vnni", "avx512_vnni", "amx_int8"} & set(expected)
    assert _native.saturates_8bit() == (x86 and not exact)
