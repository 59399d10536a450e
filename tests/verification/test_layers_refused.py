"""What cannot be compared part by part, and what is listed and not judged."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import LABELS, tiny_model, tiny_spec
from tests.verification.changed import rewritten
from vitrify.checkpoints import save_checkpoint
from vitrify.errors import ArtifactError, OptionError
from vitrify.graphs import embed_spec
from vitrify.graphs.rewrites.probes import probed_model
from vitrify.verification import compare_layers


def test_a_graph_whose_nodes_have_no_names(artifact: Path, tmp_path: Path) -> None:
    def forget(model: onnx.ModelProto) -> None:
        for number, node in enumerate(model.graph.node):
            node.name = f"node_{number}"

    with pytest.raises(OptionError, match="told apart") as caught:
        compare_layers(rewritten(artifact, tmp_path / "m.onnx", forget), reference=artifact)
    assert caught.value.hint


def renamed(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = node.name.replace("blocks.", "stages.")


def test_parts_that_one_side_lacks_are_listed(artifact: Path, tmp_path: Path) -> None:
    report = compare_layers(rewritten(artifact, tmp_path / "m.onnx", renamed), reference=artifact)
    assert report.passed
    assert report.only_reference == ("embedding", "blocks.0", "blocks.1")
    assert report.only_artifact == ("stages",)
    assert [part.part for part in report.comparisons[0].parts] == ["patch_embed", "norm", "head"]


def test_no_part_in_common(artifact: Path, tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            _, slash, rest = node.name.rpartition("/")
            node.name = f"body/{rest}" if slash else node.name

    with pytest.raises(OptionError, match="no part in common"):
        compare_layers(rewritten(artifact, tmp_path / "m.onnx", rename), reference=artifact)


def test_artifacts_of_different_models(artifact: Path, tmp_path: Path) -> None:
    labels = tuple(reversed(LABELS))
    relabelled = rewritten(
        artifact, tmp_path / "m.onnx", lambda model: embed_spec(model, tiny_spec(labels).replace(golden=()))
    )
    with pytest.raises(OptionError, match="labels differ"):
        compare_layers(relabelled, reference=artifact)
    save_checkpoint(tmp_path / "three.safetensors", tiny_model(3), tiny_spec(LABELS[:3]))
    with pytest.raises(OptionError, match="labels differ"):
        compare_layers(artifact, reference=tmp_path / "three.safetensors")
    with pytest.raises(ArtifactError, match="no such file"):
        compare_layers(artifact, reference=tmp_path / "gone.onnx")
    with pytest.raises(ArtifactError, match="no such file"):
        compare_layers(tmp_path / "gone.onnx", reference=artifact)
    with pytest.raises(OptionError, match="out of range"):
        compare_layers(artifact, tolerance=0.0)


def test_probes_that_change_the_logits_are_told(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def otherwise(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
        probed, probes = probed_model(model)
        for weight in probed.graph.initializer:
            if weight.name == "head.bias":
                weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + 1, weight.name))
        return probed, probes

    monkeypatch.setattr("vitrify.graphs.rewrites.probes.probed_model", otherwise)
    report = compare_layers(artifact)
    assert report.passed  # both sides are changed alike
    assert len(report.notes) == 2
    assert all("watching" in note for note in report.notes)
