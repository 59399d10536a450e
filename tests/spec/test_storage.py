from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from tests.conftest import tiny_spec
from vitrify.errors import ArtifactError, InputError, SpecMissingError
from vitrify.spec import SPEC_KEY, embedded_spec


def onnx_file(path: Path, metadata: dict[str, str]) -> Path:
    """An ONNX file made by the onnx library."""
    value = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3])
    other = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    graph = helper.make_graph([helper.make_node("Add", ["image", "w"], ["logits"])], "g", [value], [other], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_onnx_metadata_is_found(tmp_path: Path) -> None:
    spec = tiny_spec()
    path = onnx_file(tmp_path / "m.onnx", {"other": "value", SPEC_KEY: spec.to_json(), "last": ""})
    assert embedded_spec(path) == spec


def test_safetensors_metadata_is_found(tmp_path: Path) -> None:
    spec = tiny_spec()
    path = tmp_path / "m.safetensors"
    save_file({"a": np.zeros((3, 4), np.float32)}, path, metadata={SPEC_KEY: spec.to_json()})
    assert embedded_spec(path) == spec


def test_a_file_without_spec_says_how_to_get_one(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3)}, tmp_path / "m.safetensors")
    for path in (onnx_file(tmp_path / "m.onnx", {}), tmp_path / "m.safetensors"):
        with pytest.raises(SpecMissingError, match="vitrify export"):
            embedded_spec(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    spec = tiny_spec().to_json()
    save_file({"a": np.zeros(30)}, tmp_path / "m.safetensors", metadata={SPEC_KEY: spec})
    for whole in (onnx_file(tmp_path / "m.onnx", {SPEC_KEY: spec}), tmp_path / "m.safetensors"):
        data = whole.read_bytes()
        cut = whole.with_stem("cut")
        for length in range(0, len(data), 7):
            cut.write_bytes(data[:length])
            with pytest.raises(InputError):
                embedded_spec(cut)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.binary(max_size=300), suffix=st.sampled_from([".onnx", ".safetensors"]))
def test_garbage_is_an_error_never_a_crash(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(data)
    with pytest.raises(InputError):
        embedded_spec(path)


@pytest.mark.parametrize("header", [b"[]", b'{"a": 3}', b'{"a": {"data_offsets": [0]}}', b"{", b'{"__metadata__": 3}'])
def test_hostile_safetensors_headers(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError):
        embedded_spec(path)


def test_a_header_length_is_not_an_allocation(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 62) + json.dumps({}).encode())
    with pytest.raises(ArtifactError, match="no safetensors"):
        embedded_spec(path)


def test_paths_that_are_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "dir.onnx").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    for name, says in (("missing.onnx", "no such file"), ("dir.onnx", "is a directory"), ("notes.txt", "cannot tell")):
        with pytest.raises(ArtifactError, match=says):
            embedded_spec(tmp_path / name)
