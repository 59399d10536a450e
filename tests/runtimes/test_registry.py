from __future__ import annotations

from pathlib import Path

import pytest

from vitrify.errors import ArtifactError, MissingExtraError, OptionError
from vitrify.runtimes import RUNTIMES, RuntimeRow, open_runtime, pick_runtime, registry, runtimes_for


def test_auto_prefers_openvino_on_a_cpu() -> None:
    assert pick_runtime("m.onnx").name == "openvino"
    assert [row.name for row in runtimes_for("m.onnx")] == ["openvino", "onnxruntime"]
    assert pick_runtime("m.safetensors").name == "torch"


def test_an_engine_runs_in_tensorrt() -> None:
    (row,) = (row for row in RUNTIMES if row.name == "tensorrt")
    if row.installed:
        assert pick_runtime("m.engine") == pick_runtime("m.plan", "tensorrt") == row
    with pytest.raises(OptionError, match=r"tensorrt runtime cannot run m\.onnx"):
        pick_runtime("m.onnx", "tensorrt")


def test_any_of_several_packages_does() -> None:
    row = RuntimeRow("ghost", "vitrify.runtimes.ghost:Ghost", (".ghost",), "no_such_package", "ghost", ("json",))
    assert row.installed
    assert not RuntimeRow("ghost", "", (".ghost",), "no_such_package", "ghost", ("nor_this",)).installed


def test_a_folder_is_a_checkpoint(tmp_path: Path) -> None:
    assert pick_runtime(tmp_path).name == "torch"
    assert pick_runtime(tmp_path, "torch").name == "torch"


def test_names_and_files_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"expected: auto, openvino"):
        pick_runtime("m.onnx", "tensorflow")
    with pytest.raises(OptionError, match="torch runtime cannot run"):
        pick_runtime("m.onnx", "torch")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ArtifactError, match="no runtime runs"):
        pick_runtime(tmp_path / "notes.txt")
    with pytest.raises(ArtifactError, match="no such file"):
        pick_runtime(tmp_path / "gone.txt")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = (RuntimeRow("ghost", "vitrify.runtimes.ghost:Ghost", (".ghost",), "no_such_package", "ghost"),)
    monkeypatch.setattr(registry, "RUNTIMES", (*RUNTIMES, *missing))
    for call in (lambda: pick_runtime("m.ghost"), lambda: open_runtime("m.ghost", "ghost")):
        with pytest.raises(MissingExtraError, match=r'pip install "vitrify\[ghost\]"'):
            call()


def test_every_row_can_be_imported() -> None:
    for row in RUNTIMES:
        if row.by_name and not row.installed:
            continue  # built where it is asked for
        assert row.load().name == row.name
