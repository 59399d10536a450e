from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from tests.conftest import LABELS, MODEL_KWARGS, tiny_model, tiny_spec
from vitrify import __version__
from vitrify.artifacts import read_spec
from vitrify.checkpoints import Overrides
from vitrify.conversion import EXPORTERS
from vitrify.errors import CheckpointError, GateError, OptionError, StorageError
from vitrify.files import sha256_of
from vitrify.runtimes import has_native_bf16
from vitrify.spec import golden_batch, golden_logits
from vitrify.workflows.export import ExportResult, onnx_from_checkpoint, read_labels


class Recorder:
    """A progress that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def track(self, items: Any, *, label: str, total: int | None = None) -> Any:
        return iter(items)


def test_the_artifact_describes_itself(exported: ExportResult, checkpoint: Path) -> None:
    spec = read_spec(exported.path)
    assert spec == exported.spec
    assert spec.labels == LABELS
    assert spec.preprocess == tiny_spec().preprocess
    assert spec.source.checkpoint == "tiny.safetensors"
    assert spec.source.checkpoint_sha256 == sha256_of(checkpoint)
    assert spec.source.created_by == f"vitrify {__version__}"
    assert exported.exporter == "dynamo"
    assert exported.size_bytes == exported.path.stat().st_size


def test_golden_logits_are_pytorchs(exported: ExportResult) -> None:
    with torch.inference_mode():
        want = tiny_model()(torch.from_numpy(golden_batch(exported.spec))).numpy()
    np.testing.assert_allclose(golden_logits(exported.spec), want, rtol=1e-6, atol=1e-6)


def test_the_record_covers_every_runtime_batch_and_input(exported: ExportResult) -> None:
    seen = {(c.runtime, c.precision, c.inputs, c.batch, c.count) for c in exported.verification.checks}
    for runtime in ("onnxruntime", "openvino"):
        assert {(runtime, "fp32", "golden", 3, 3), (runtime, "fp32", "images", 8, 40)} <= seen
        assert {(runtime, "fp32", "random", n, n) for n in (1, 3, 8)} <= seen
    assert (("openvino", "bf16", "images", 8, 40) in seen) == has_native_bf16()
    assert all(check.passed for check in exported.verification.checks if check.precision == "fp32")
    assert exported.verification.versions.keys() >= {"torch", "onnx", "onnxruntime", "openvino", "vitrify"}


def test_probabilities_stand_side_by_side(exported: ExportResult) -> None:
    answers = exported.answers
    assert list(answers.columns)[:3] == ["torch fp32", "onnxruntime fp32", "openvino fp32"]
    assert len(answers.labels) == 5
    assert list(answers.columns["torch fp32"]) == sorted(answers.columns["torch fp32"], reverse=True)
    assert max(map(abs, answers.differences("onnxruntime fp32"))) < 1e-5


def test_plain_onnxruntime_needs_nothing_of_vitrify(exported: ExportResult) -> None:
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    batch = golden_batch(exported.spec)
    logits = session.run(["logits"], {"image": batch})[0]
    np.testing.assert_allclose(logits, golden_logits(exported.spec), rtol=1e-3, atol=1e-4)


def test_export_is_reproducible(checkpoint: Path, tmp_path: Path) -> None:
    one, other = (onnx_from_checkpoint(checkpoint, tmp_path / name).path for name in ("a.onnx", "b.onnx"))
    graphs = [onnx.load(path).graph.SerializeToString(deterministic=True) for path in (one, other)]
    assert graphs[0] == graphs[1]


def broken_export(model: nn.Module, spec: Any, opset: int) -> onnx.ModelProto:
    """A graph of another model: the same shapes, other answers."""
    return EXPORTERS_KEPT["dynamo"](tiny_model(seed=9), spec, opset)


EXPORTERS_KEPT = dict(EXPORTERS)


def test_a_failed_gate_falls_back_and_says_so(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPORTERS, "dynamo", broken_export)
    progress = Recorder()
    result = onnx_from_checkpoint(checkpoint, tmp_path / "m.onnx", progress=progress)
    assert result.exporter == "torchscript"
    assert any("dynamo failed" in line and "gate" in line for line in progress.said)


def test_nothing_is_written_when_no_exporter_passes(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(model: nn.Module, spec: Any, opset: int) -> onnx.ModelProto:
        raise RuntimeError("unsupported operator\nlong trace")

    monkeypatch.setitem(EXPORTERS, "dynamo", broken_export)
    monkeypatch.setitem(EXPORTERS, "torchscript", crash)
    target = tmp_path / "m.onnx"
    target.write_bytes(b"what stood here")
    with pytest.raises(GateError, match="unsupported operator") as caught:
        onnx_from_checkpoint(checkpoint, target)
    assert "long trace" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert target.read_bytes() == b"what stood here"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_target_as_it_was(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        if self.parent == tmp_path:
            self.touch()
            raise OSError(28, "No space left on device", str(self))
        return write_bytes(self, data)

    write_bytes = Path.write_bytes
    target = tmp_path / "m.onnx"
    target.write_bytes(b"what stood here")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left"):
        onnx_from_checkpoint(checkpoint, target)
    assert target.read_bytes() == b"what stood here"
    assert list(tmp_path.iterdir()) == [target]


def test_opset_16_has_no_layer_normalization(checkpoint: Path, tmp_path: Path) -> None:
    result = onnx_from_checkpoint(checkpoint, tmp_path / "m.onnx", opset=16)
    proto = onnx.load(result.path)
    operators = {node.op_type for node in proto.graph.node}
    assert result.exporter == "torchscript"
    assert [entry.version for entry in proto.opset_import if entry.domain == ""] == [16]
    assert not {"LayerNormalization", "Where"} & operators
    assert all(weight.data_type != onnx.TensorProto.BOOL for weight in proto.graph.initializer)
    assert {"ReduceMean", "Softmax", "Erf"} <= operators
    assert all(check.passed for check in result.verification.checks if check.precision == "fp32")
    with pytest.raises(OptionError, match="opset 16 with dynamo"):
        onnx_from_checkpoint(checkpoint, tmp_path / "n.onnx", opset=16, exporter="dynamo")
    with pytest.raises(OptionError, match="opset 17"):
        onnx_from_checkpoint(checkpoint, tmp_path / "n.onnx", opset=17)


def test_a_foreign_checkpoint_with_labels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_base_patch16_224", num_classes=3, **MODEL_KWARGS)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    torch.save(model.state_dict(), tmp_path / "foreign.pth")
    progress = Recorder()
    heads = Overrides(num_heads=2)
    unnamed = onnx_from_checkpoint(tmp_path / "foreign.pth", tmp_path / "m.onnx", overrides=heads, progress=progress)
    assert unnamed.spec.labels == ("class 0", "class 1", "class 2")
    assert unnamed.spec.source.dialect == "timm"
    named = onnx_from_checkpoint(tmp_path / "foreign.pth", tmp_path / "n.onnx", labels=("a", "b", "c"), overrides=heads)
    assert named.spec.labels == ("a", "b", "c")
    with pytest.raises(OptionError, match="expected: 3"):
        onnx_from_checkpoint(tmp_path / "foreign.pth", tmp_path / "o.onnx", labels=("a", "b"))


def test_a_backbone_cannot_be_exported(tmp_path: Path) -> None:
    model = timm.create_model("vit_base_patch16_224", num_classes=0, **MODEL_KWARGS)
    torch.save(model.state_dict(), tmp_path / "backbone.pth")
    with pytest.raises(CheckpointError, match="vitrify train"):
        onnx_from_checkpoint(tmp_path / "backbone.pth", tmp_path / "m.onnx")


def test_targets_that_cannot_be(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="suffix"):
        onnx_from_checkpoint(checkpoint, tmp_path / "m.engine")
    with pytest.raises(OptionError, match="no exporter"):
        onnx_from_checkpoint(checkpoint, tmp_path / "m.onnx", exporter="paddle")
    (tmp_path / "dir.onnx").mkdir()
    with pytest.raises(StorageError, match="a directory"):
        onnx_from_checkpoint(checkpoint, tmp_path / "dir.onnx")


def test_label_files(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("rose\nwild tulip\nväxt\n\n", encoding="utf-8")
    assert read_labels(path) == ("rose", "wild tulip", "växt")
    for content, says in (("", "empty"), ("a\na\n", "repeated: a"), ("a\n\nb\n", "empty line")):
        path.write_text(content)
        with pytest.raises(OptionError, match=says):
            read_labels(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="UTF-8"):
        read_labels(path)
    with pytest.raises(OptionError, match="cannot read"):
        read_labels(tmp_path / "no.txt")
