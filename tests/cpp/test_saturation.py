"""8-bit networks: refused where their products would saturate, right where they run dequantised."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.cpp.conftest import GOLDEN
from tests.cpp.library import BAD_ARTIFACT, Library, StatusError
from vitrify import _native
from vitrify.artifacts import read_spec
from vitrify.precision import Recipe, Rewriter
from vitrify.spec import SPEC_KEY

Floats = npt.NDArray[np.float32]
SHAPE = read_spec(GOLDEN / "tiny.onnx").input_shape


def images(count: int) -> Floats:
    return np.random.default_rng(5).standard_normal((count, *SHAPE), dtype=np.float32)


def as_int8(path: Path, model: onnx.ModelProto, **fields: object) -> Path:
    spec = json.loads(read_spec(GOLDEN / "tiny.onnx").replace(golden=(), verification=None, file_sha256="").to_json())
    onnx.helper.set_model_props(model, {SPEC_KEY: json.dumps({**spec, "precision": "int8", **fields})})
    onnx.save(model, path)
    return path


def reference(model: onnx.ModelProto, tensors: Floats) -> Floats:
    """By onnx's own evaluator in NumPy, which has the two operators from opset 19 on, where they do the same."""
    newer = onnx.ModelProto.FromString(model.SerializeToString())
    del newer.opset_import[:]
    newer.opset_import.append(helper.make_opsetid("", 21))
    answers = ReferenceEvaluator(newer).run(None, {"image": tensors})
    assert isinstance(answers, list)
    return np.asarray(answers[0])


@pytest.fixture(scope="module")
def quantized() -> onnx.ModelProto:
    """tiny.onnx with 8-bit layers, as vitrify rewrites it."""
    rewriter = Rewriter(onnx.load(GOLDEN / "tiny.onnx"), lambda: iter([images(8)]))
    return rewriter.rewrite(Recipe(precision="int8")).proto


def saturating() -> onnx.ModelProto:
    """Pixels times weights, times themselves: both products have every factor at the end of its range."""

    def rounded(source: str, name: str, step: str, zero: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("QuantizeLinear", [source, step, zero], [f"{name}.q"]),
            helper.make_node("DequantizeLinear", [f"{name}.q", step, zero], [name]),
        ]

    nodes = [
        *rounded("image", "x", "small", "unsigned"),
        helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 1, 3, 2]),
        *rounded("turned", "y", "small", "signed"),
        helper.make_node("MatMul", ["x", "y"], ["product"]),
        *rounded("product", "z", "large", "unsigned"),
        helper.make_node("DequantizeLinear", ["weights", "small", "signed"], ["w"]),
        helper.make_node("MatMul", ["z", "w"], ["rows"]),
        helper.make_node("ReduceMax", ["rows", "axes"], ["logits"], keepdims=0),
    ]
    constants = {
        "small": np.float32(0.01),
        "large": np.float32(0.5),
        "unsigned": np.uint8(0),
        "signed": np.int8(0),
        "weights": np.full((3, 32, 6), 127, np.int8),
        "axes": np.array([1, 2]),
    }
    graph = helper.make_graph(
        nodes,
        "saturating",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_the_products_that_saturate_are_not_run_silently(
    library: Library, tmp_path: Path, quantized: onnx.ModelProto
) -> None:
    path = as_int8(tmp_path / "int8.onnx", quantized)
    if _native.saturates_8bit():
        for precision in (b"auto", b"bf16"):
            with pytest.raises(StatusError, match="saturate on this processor") as refused:
                library.load(path, precision=precision)
            assert refused.value.status == BAD_ARTIFACT
            assert _native.processor_name() in str(refused.value)
            assert "hint: quantize it again" in str(refused.value)
    else:
        with library.load(path) as native:
            native.infer(images(1))
    path = as_int8(tmp_path / "free.onnx", quantized, saturation_free=True)
    with library.load(path) as native:
        native.infer(images(1))


@pytest.mark.parametrize("name", ["layers", "products of activations"])
def test_dequantised_it_computes_what_its_rounded_numbers_give(
    library: Library, tmp_path: Path, quantized: onnx.ModelProto, name: str
) -> None:
    model, tensors = (quantized, images(3)) if name == "layers" else (saturating(), np.full((3, *SHAPE), 7, np.float32))
    path = as_int8(tmp_path / "int8.onnx", model)
    expected = reference(model, tensors)
    with library.load(path, precision=b"fp32") as native:
        answer = native.infer(tensors)
    # A value between two steps may go to either: that is 1% here, where saturation takes a third and more.
    assert np.abs(answer - expected).max() <= 0.01 * np.abs(expected).max()


def test_a_compiled_network_is_that_of_its_arithmetic(
    library: Library, tmp_path: Path, quantized: onnx.ModelProto
) -> None:
    path, cache = as_int8(tmp_path / "free.onnx", quantized, saturation_free=True), tmp_path / "cache"
    answers: dict[bytes, bytes] = {}
    for precision in (b"fp32", b"auto", b"fp32", b"auto"):
        with library.load(path, precision=precision, cache_folder=bytes(cache)) as native:
            answer = native.infer(images(2)).tobytes()
        assert answers.setdefault(precision, answer) == answer
    assert len(list(cache.iterdir())) == 2
