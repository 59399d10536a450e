"""`verify` has to notice what it exists for: an artifact that is no longer the model that was exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import tiny_model, tiny_spec
from tests.verification.changed import saved
from vitrify.artifacts import read_spec
from vitrify.checkpoints import save_checkpoint
from vitrify.errors import GateError, OptionError
from vitrify.graphs import embed_spec
from vitrify.spec import ModelSpec
from vitrify.verification import require_passed, verify_artifact


def passed(path: Path, **options: object) -> bool:
    return all(check.passed for check in verify_artifact(path, **options).checks)  # type: ignore[arg-type]


def changed(artifact: Path, target: Path, *, weight: str, factor: float) -> Path:
    """A copy with one weight tensor scaled; nothing else differs."""
    model = onnx.load(artifact)
    for tensor in model.graph.initializer:
        if tensor.name == weight:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), weight))
            return saved(model, target)
    raise AssertionError([tensor.name for tensor in model.graph.initializer])


def test_a_good_artifact_passes_without_pytorch_or_images(artifact: Path) -> None:
    record = verify_artifact(artifact)
    assert {check.runtime for check in record.checks} == {"openvino", "onnxruntime"}
    assert {check.inputs for check in record.checks} == {"golden"}
    assert all(check.passed for check in record.checks)
    assert record.reference == "golden vectors"
    assert record.machine
    assert {"vitrify", "python", "openvino", "onnxruntime"} <= record.versions.keys()


def test_it_is_compared_with_its_checkpoint(artifact: Path, checkpoint: Path, photos: Path) -> None:
    images = sorted(photos.rglob("*.*g"))[:9]
    record = verify_artifact(artifact, reference=checkpoint, images=images, runtime="onnxruntime")
    seen = [(check.inputs, check.batch, check.count) for check in record.checks]
    assert seen == [("golden", 3, 3), ("random", 1, 1), ("random", 3, 3), ("random", 8, 8), ("images", 8, 9)]
    assert all(check.passed for check in record.checks)


def test_an_artifact_is_a_reference_too(artifact: Path) -> None:
    assert passed(artifact, reference=artifact)


@pytest.mark.parametrize("factor", [1.01, 0.0])
def test_a_changed_weight_is_noticed(artifact: Path, tmp_path: Path, factor: float) -> None:
    other = changed(artifact, tmp_path / "changed.onnx", weight="blocks.1.norm2.weight", factor=factor)
    assert read_spec(other) == read_spec(artifact)
    assert not passed(other)
    assert not passed(other, reference=artifact)


def test_swapped_labels_order_of_the_head_is_noticed(artifact: Path, tmp_path: Path) -> None:
    model = onnx.load(artifact)
    for tensor in model.graph.initializer:
        if tensor.name == "head.bias":
            values = numpy_helper.to_array(tensor)[::-1].copy()
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    assert not passed(saved(model, tmp_path / "swapped.onnx"))


def test_another_model_is_noticed(artifact: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other.safetensors", tiny_model(seed=1), tiny_spec())
    assert not passed(artifact, reference=tmp_path / "other.safetensors")


def test_nothing_to_compare_with_is_an_error(artifact: Path, tmp_path: Path) -> None:
    model = onnx.load(artifact)
    spec: ModelSpec = read_spec(artifact).replace(golden=())
    embed_spec(model, spec)
    onnx.save(model, tmp_path / "silent.onnx")
    with pytest.raises(OptionError, match="nothing to compare"):
        verify_artifact(tmp_path / "silent.onnx")


def test_images_alone_compare_the_runtimes(artifact: Path, photos: Path) -> None:
    record = verify_artifact(artifact, images=sorted(photos.rglob("*.png")), runtime="openvino")
    assert [check.inputs for check in record.checks] == ["golden", "images"]
    assert all(check.passed for check in record.checks)


def test_the_worst_check_is_shown(artifact: Path, tmp_path: Path) -> None:
    other = changed(artifact, tmp_path / "changed.onnx", weight="blocks.1.norm2.weight", factor=2)
    with pytest.raises(GateError, match="top-1 agreement") as caught:
        require_passed(verify_artifact(other).checks, "the file", hint="export again")
    assert caught.value.exit_code == 1


def test_a_precision_that_no_runtime_has(artifact: Path) -> None:
    with pytest.raises(OptionError, match="fp8"):
        verify_artifact(artifact, precision="fp8")
