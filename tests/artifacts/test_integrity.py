"""A file tells by its own digest that it is whole."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.conftest import tiny_model, tiny_spec
from vitrify.artifacts import Artifact, read_spec
from vitrify.checkpoints import load_checkpoint, save_checkpoint
from vitrify.cli import main
from vitrify.errors import ArtifactError, OptionError
from vitrify.graphs import embed_spec, write_artifact
from vitrify.runtimes import open_runtime


def files(artifact: Path, folder: Path) -> list[Path]:
    save_checkpoint(folder / "tiny.safetensors", tiny_model(), tiny_spec())
    return [artifact, folder / "tiny.safetensors"]


def test_the_digest_is_of_the_whole_file_with_its_own_digits_as_zeros(artifact: Path, tmp_path: Path) -> None:
    for path in files(artifact, tmp_path):
        content, digest = path.read_bytes(), read_spec(path).file_sha256
        assert content.count(digest.encode()) == 1
        assert hashlib.sha256(content.replace(digest.encode(), b"0" * 64)).hexdigest() == digest
        Artifact.open(path).require_intact()


def test_any_byte_that_changes_is_noticed(artifact: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    for path in files(artifact, tmp_path):
        whole, noticed = path.read_bytes(), 0
        target = tmp_path / f"changed{path.suffix}"
        for place in rng.integers(0, len(whole), 60):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(0, 8))
            target.write_bytes(damaged)
            try:
                Artifact.open(target).require_intact()
            except (ArtifactError, ValueError):
                noticed += 1
            except Exception as error:
                assert type(error).__module__ == "vitrify.errors"  # noqa: PT017
                noticed += 1
        assert noticed == 60


def test_a_changed_weight_is_refused_at_the_first_opening_and_by_verify(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(artifact)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    largest.raw_data = largest.raw_data[:-1] + bytes([largest.raw_data[-1] ^ 1])
    onnx.save(model, tmp_path / "changed.onnx")
    for command in (["verify"], ["inspect"], ["predict", "--self-test", "always"]):
        images = [str(artifact)] if command[0] == "predict" else []
        with pytest.raises(SystemExit) as ended:
            main([command[0], str(tmp_path / "changed.onnx"), *images, *command[1:]])
        assert ended.value.code == 2
        assert "is not the file that was written" in capsys.readouterr().err


def test_a_graph_that_somebody_else_saves_has_no_digest_and_passes(artifact: Path, tmp_path: Path) -> None:
    model = onnx.load(artifact)
    embed_spec(model, read_spec(artifact))
    onnx.save(model, tmp_path / "saved.onnx")
    assert read_spec(tmp_path / "saved.onnx").file_sha256 == ""
    Artifact.open(tmp_path / "saved.onnx").require_intact()


def test_the_digest_is_no_part_of_what_a_model_is(artifact: Path, tmp_path: Path) -> None:
    spec = read_spec(artifact)
    write_artifact(
        onnx.load(artifact), spec.extended("acme.note", {"for": ["Jetson", 1, None]}), tmp_path / "noted.onnx"
    )
    noted = read_spec(tmp_path / "noted.onnx")
    assert noted.file_sha256 != spec.file_sha256
    assert noted.extensions == {"acme.note": {"for": ["Jetson", 1, None]}}
    assert noted.replace(extensions={}) == spec


def test_what_was_made_from_one_checkpoint_is_one_model(artifact: Path, checkpoint: Path) -> None:
    made_from, exported = Artifact.open(checkpoint), Artifact.open(artifact)
    assert exported.weights_sha256 == made_from.weights_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    exported.require_same_model(made_from)
    made_from.require_same_model(exported)
    with open_runtime(checkpoint) as opened:
        exported.require_same_model(opened.artifact, other_spec=opened.spec)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("labels", {"labels": ("a", "b", "c", "d", "e", "f")}),
        ("preprocessing", {"preprocess": tiny_spec().preprocess.__class__(**{
            **{name: getattr(tiny_spec().preprocess, name) for name in tiny_spec().preprocess.__dataclass_fields__},
            "mean": (0.1, 0.2, 0.3),
        })}),
    ],
)  # fmt: skip
def test_another_question_is_another_model(
    artifact: Path, tmp_path: Path, what: str, change: dict[str, object]
) -> None:
    write_artifact(onnx.load(artifact), read_spec(artifact).replace(golden=(), **change), tmp_path / "other.onnx")
    with pytest.raises(OptionError, match=re.escape(f"different models: their {what} differ")):
        Artifact.open(artifact).require_same_model(Artifact.open(tmp_path / "other.onnx"))


def test_other_weights_are_another_model(artifact: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other.safetensors", tiny_model(seed=1), tiny_spec())
    assert load_checkpoint(tmp_path / "other.safetensors").num_classes == len(read_spec(artifact).labels)
    with pytest.raises(OptionError, match="their checkpoints differ"):
        Artifact.open(artifact).require_same_model(Artifact.open(tmp_path / "other.safetensors"))
