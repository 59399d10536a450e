"""The golden vectors at the first opening: which verdicts are kept, for what, and what a wrong answer says."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import onnx
import pytest

from tests.conftest import LABELS
from vitrify import Classifier
from vitrify.artifacts import read_spec
from vitrify.errors import OptionError, SelfTestError, SpecError
from vitrify.graphs import write_artifact
from vitrify.machine import processor_name
from vitrify.runtimes import self_testing as module
from vitrify.runtimes.onnxruntime import OnnxRuntime


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Rows of each inference from now on, with a cache folder of its own."""
    monkeypatch.setenv("VITRIFY_CACHE", str(tmp_path / "cache"))
    seen: list[int] = []
    infer = OnnxRuntime._infer

    def counted(self: OnnxRuntime, batch):  # type: ignore[no-untyped-def]
        seen.append(len(batch["image"]))
        return infer(self, batch)

    monkeypatch.setattr(OnnxRuntime, "_infer", counted)
    return seen


@pytest.fixture
def own(artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(artifact, tmp_path / "own.onnx"))


def open_it(path: Path, **options: object) -> None:
    Classifier(path, runtime="onnxruntime", **options).close()  # type: ignore[arg-type]


def test_each_vector_alone_and_all_at_once_and_only_the_first_time(own: Path, runs: list[int]) -> None:
    open_it(own)
    assert runs == [1, 1, 1, 3]
    open_it(own)
    assert runs == [1, 1, 1, 3]
    open_it(own, self_test="always")
    assert runs == [1, 1, 1, 3] * 2
    shutil.rmtree(own.parent / "cache")
    open_it(own, self_test="never")
    assert runs == [1, 1, 1, 3] * 2


def test_what_the_answer_hangs_on_is_tested_anew(own: Path, runs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    open_it(own)
    for name, value in (
        ("instruction_sets", lambda: ("avx2", "abacus")),
        ("processor_name", lambda: "Another"),
    ):
        monkeypatch.setattr(module, name, value)
        runs.clear()
        open_it(own)
        assert runs
    monkeypatch.setattr(OnnxRuntime, "versions", lambda self: {"onnxruntime": "99.0"})
    runs.clear()
    open_it(own)
    assert runs
    runs.clear()
    own.write_bytes(own.read_bytes())  # the same bytes, but who knows that without reading them
    open_it(own)
    assert runs


def planted(own: Path, path: Path) -> Path:
    spec = read_spec(own)
    vector = spec.golden[1]
    wrong = dataclasses.replace(vector, logits=(*vector.logits[:2], vector.logits[2] + 1, *vector.logits[3:]))
    write_artifact(onnx.load(own), spec.replace(golden=(spec.golden[0], wrong, spec.golden[2])), path)
    return path


def test_a_wrong_answer_names_runtime_processor_and_logit(own: Path, runs: list[int], tmp_path: Path) -> None:
    path = planted(own, tmp_path / "wrong.onnx")
    for _ in range(2):  # a refusal is not kept: the next opening looks again
        runs.clear()
        with pytest.raises(SelfTestError) as caught:
            open_it(path)
        assert runs
    for part in (f"{LABELS[2]!r} of golden vector 2", "onnxruntime 1.", processor_name(), "hint:"):
        assert part in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.json"))
    open_it(path, self_test="never")


@pytest.mark.parametrize("place", ["a file in its way", "/proc/nowhere"])
def test_a_cache_that_cannot_be_written_costs_time_alone(
    own: Path, runs: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / place
    if not place.startswith("/"):
        folder.write_text("")
    monkeypatch.setenv("VITRIFY_CACHE", str(folder))
    for _ in range(2):
        runs.clear()
        open_it(own)
        assert runs == [1, 1, 1, 3]


def test_without_golden_vectors(own: Path, runs: list[int], tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    write_artifact(onnx.load(own), read_spec(own).replace(golden=()), path)
    open_it(path)
    assert not runs
    with pytest.raises(SpecError, match="no golden vectors"):
        open_it(path, self_test="always")
    with pytest.raises(OptionError, match="sometimes"):
        open_it(path, self_test="sometimes")


def test_a_checkpoint_is_tested_too(checkpoint: Path, runs: list[int]) -> None:
    Classifier(checkpoint, self_test="auto").close()  # whether it carries vectors or not
