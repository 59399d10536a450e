"""What the linker and the compiler were asked to harden, read back from the binaries that they made."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.cpp.conftest import run
from vitrify import _native

pytestmark = pytest.mark.skipif(shutil.which("readelf") is None, reason="no ELF binaries here")


def linking_faults(binary: Path) -> set[str]:
    """What is missing of how it should be linked, a word each."""
    dynamic, segments = run("readelf", "-dW", binary), run("readelf", "-lW", binary)
    faults = set()
    for entry in [
        entry for paths in re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", dynamic) for entry in paths.split(":")
    ]:
        if not re.match(r"/|\$ORIGIN(/|$)", entry) or Path(entry) == Path.cwd():
            faults.add("path")
    if not re.search(r"\(FLAGS_1\).*\bNOW\b", dynamic):
        faults.add("now")
    if "GNU_RELRO" not in segments:
        faults.add("relro")
    stack = re.search(r"GNU_STACK.* (R?WE?) ", segments)
    if stack is None or "E" in stack[1]:
        faults.add("stack")
    # Shared libraries have no interpreter.
    if "INTERP" in segments and not re.search(r"\(FLAGS_1\).*\bPIE\b", dynamic):
        faults.add("pie")
    return faults


def compiling_faults(binary: Path) -> set[str]:
    """What no function of it was compiled with."""
    symbols = run("readelf", "--dyn-syms", "-W", binary)
    faults = set()
    if "__stack_chk_fail" not in symbols:
        faults.add("protector")
    if not re.search(r"__(mem|str|v?s|v?sn|v?f)[a-z]*_chk\b", symbols):
        faults.add("fortify")
    return faults


def test_what_is_shipped(release: Path, installed: Path) -> None:
    (library,) = installed.glob("lib*/libvitrify.so")
    (built,) = release.glob("lib*/libvitrify.so")
    program = Path("bin", "vitrify-classify")
    for binary in (library, built, installed / program, release / program, Path(_native.__file__)):
        assert not linking_faults(binary) | compiling_faults(binary), binary


def test_the_tests_themselves(release: Path) -> None:
    programs = [path for path in (release / "cpp" / "tests").glob("test_*") if path.is_file()]
    assert len(programs) > 10
    for binary in programs:
        assert not linking_faults(binary), binary


SOURCE = """
#include <stdio.h>
#include <string.h>
int main(int count, char** texts) {
  char text[64];
  memcpy(text, texts[0], (size_t)count);
  snprintf(text, (size_t)count, "%d", count);
  return text[0];
}
"""
GOOD = ("-O2", "-fPIE", "-pie", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2",
        "-Wl,-z,relro,-z,now,-z,noexecstack", "-Wl,-rpath,/opt/lib:$ORIGIN/../lib")  # fmt: skip


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ((), None),
        (("-Wl,-rpath,/opt/lib:",), "path"),
        (("-Wl,-rpath,lib",), "path"),
        (("-Wl,-rpath,$ORIGINAL",), "path"),
        (("-Wl,-z,lazy",), "now"),
        (("-Wl,-z,norelro",), "relro"),
        (("-Wl,-z,execstack",), "stack"),
        (("-fno-pie", "-no-pie"), "pie"),
        (("-fno-stack-protector",), "protector"),
        (("-U_FORTIFY_SOURCE",), "fortify"),
    ],
)
def test_each_fault_is_seen(options: tuple[str, ...], fault: str | None, tmp_path: Path) -> None:
    source = tmp_path / "planted.c"
    source.write_text(SOURCE)
    run("gcc", "-w", *GOOD, source, "-o", tmp_path / "planted", *options)
    found = linking_faults(tmp_path / "planted") | compiling_faults(tmp_path / "planted")
    assert found == ({fault} if fault else set())


def test_an_empty_path_loads_from_the_current_directory(tmp_path: Path) -> None:
    """Why it is a fault."""
    (tmp_path / "answer.c").write_text("int answer(void) { return 0; }\n")
    (tmp_path / "main.c").write_text("int answer(void);\nint main(void) { return answer(); }\n")
    run("gcc", "-shared", "answer.c", "-o", "libanswer.so", cwd=tmp_path)
    run("gcc", "main.c", "-o", "main", "-L.", "-lanswer", "-Wl,-rpath,/opt/lib:", cwd=tmp_path)
    run("./main", cwd=tmp_path)
