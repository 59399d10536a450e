"""The C++ tests themselves, and the install tree as other projects use it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cpp.conftest import GOLDEN, ROOT, run

IMAGE = GOLDEN / "images" / "rgb.jpg"


def test_ctest(release: Path) -> None:
    assert "100% tests passed" in run("ctest", "--preset", "release")


def test_the_installed_program_runs(installed: Path) -> None:
    assert "passed" in run(installed / "bin" / "vitrify-classify", GOLDEN / "tiny.onnx", "--verify")


def test_no_private_header_is_needed(installed: Path, tmp_path: Path) -> None:
    headers = sorted(path.name for path in (installed / "include" / "vitrify").iterdir())
    assert "classifier.hpp" in headers
    for name in headers:
        source = tmp_path / ("alone.c" if name.endswith(".h") else "alone.cpp")
        source.write_text(f"#include <vitrify/{name}>\nint main(void) {{ return 0; }}\n")
        compiler = ("gcc", "-std=c99") if name.endswith(".h") else ("g++", "-std=c++17")
        warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
        run(*compiler, *warnings, "-fsyntax-only", f"-I{installed / 'include'}", source)


def test_a_project_finds_the_package(installed: Path, tmp_path: Path) -> None:
    example = tmp_path / "example"
    shutil.copytree(ROOT / "examples" / "cpp", example)
    run("cmake", "-S", example, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={installed}")
    run("cmake", "--build", tmp_path / "build")
    answer = run(tmp_path / "build" / "classify", GOLDEN / "tiny.onnx", IMAGE)
    assert answer.count("\n") == 5
    assert answer.split()[0] == str(IMAGE)


def test_pkg_config_and_c(installed: Path, tmp_path: Path) -> None:
    source = tmp_path / "best.c"
    source.write_text(
        "#include <stdio.h>\n#include <vitrify/vitrify.h>\n"
        "int main(int count, char** texts) {\n"
        "  vitrify_classifier* classifier = NULL;\n  vitrify_score best;\n"
        "  if (count != 3 || vitrify_load(texts[1], NULL, &classifier) != VITRIFY_OK ||\n"
        "      vitrify_classify_file(classifier, texts[2], &best, 1) != VITRIFY_OK) {\n"
        "    puts(vitrify_last_error());\n    return 1;\n  }\n"
        '  printf("%s %.4f\\n", vitrify_label(classifier, best.index), best.probability);\n'
        "  vitrify_free(classifier);\n  return 0;\n}\n"
    )
    pkgconfig = next(installed.rglob("vitrify.pc")).parent
    flags = run("env", f"PKG_CONFIG_PATH={pkgconfig}", "pkg-config", "--cflags", "--libs", "vitrify").split()
    run("gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", source, *flags, "-o", tmp_path / "best",
        f"-Wl,-rpath,{pkgconfig.parent}")  # fmt: skip
    label, probability = run(tmp_path / "best", GOLDEN / "tiny.onnx", IMAGE).rsplit(" ", 1)
    assert label
    assert 0 < float(probability) < 1
