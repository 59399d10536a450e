"""Queries, keys and values with a product each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.precision.digits import SPEC, Digits, accuracy, export
from vitrify.graphs import element_types, linear_layers
from vitrify.graphs.rewrites.split_qkv import SplitQkv
from vitrify.pixels import preprocess
from vitrify.precision import Recipe, Rewriter


def logits(proto: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": batch})[0])


def test_the_function_stays(trained: Digits) -> None:
    proto = onnx.load(trained.onnx)
    batch = preprocess(trained.held_out[:50], SPEC.preprocess)
    before = logits(proto, batch)
    assert [place.module for place in SplitQkv(proto).apply()] == [f"blocks.{n}.attn.qkv" for n in range(3)]
    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(logits(proto, batch), before, rtol=1e-4, atol=1e-5)
    layers = linear_layers(proto.graph)
    assert len(layers) == 3 * 6
    assert len({node.name for node in proto.graph.node}) == len(proto.graph.node)
    assert SplitQkv(proto).apply() == ()


@pytest.mark.parametrize("around", ["fp32", "fp16"])
def test_eight_bits_after_it(trained: Digits, around: str) -> None:
    calibration = preprocess(trained.calibration, SPEC.preprocess)
    recipe = Recipe(precision="int8", around=around, split_qkv=True)  # type: ignore[arg-type]
    proto = Rewriter(onnx.load(trained.onnx), lambda: [calibration]).rewrite(recipe).proto
    onnx.checker.check_model(proto, full_check=True)
    operators = [node.op_type for node in proto.graph.node]
    assert operators.count("QuantizeLinear") == 3 * 4  # one for the three
    assert operators.count("DequantizeLinear") == 3 * (4 + 6)
    batch = preprocess(trained.held_out, SPEC.preprocess)
    truth = accuracy(logits(onnx.load(trained.onnx), batch), trained.labels)
    assert truth - accuracy(logits(proto, batch), trained.labels) <= 0.005


def test_the_tracers_form_stays_as_it_is(trained: Digits, tmp_path: Path) -> None:
    proto = onnx.load(export(trained.model, tmp_path / "m.onnx", opset=16))
    assert SplitQkv(proto).apply() == ()
    assert len(linear_layers(proto.graph)) == 3 * 4


def test_taking_apart_changes_no_8_bit_number(trained: Digits) -> None:
    """Why it is no step of the search: a weight's scale is its output channel's, and the three share their input."""
    calibration = preprocess(trained.calibration, SPEC.preprocess)
    made = Rewriter(onnx.load(trained.onnx), lambda: [calibration])
    joined, apart = (made.rewrite(Recipe(precision="int8", split_qkv=split)).proto for split in (False, True))
    stored = [{w.name: onnx.numpy_helper.to_array(w) for w in proto.graph.initializer} for proto in (joined, apart)]
    names = [name for name in stored[0] if name.endswith("_quantized") and stored[0][name].shape == (64, 192)]
    assert len(names) == 3
    for name in names:
        stem = name.removesuffix("_quantized")
        three = [stored[1][f"{stem}_{letter}_quantized"] for letter in "qkv"]
        np.testing.assert_array_equal(np.concatenate(three, axis=1), stored[0][name])


@pytest.mark.parametrize("around", ["fp32", "fp16"])
def test_attention_that_is_kept_has_no_8_bits_and_its_products_fp32(trained: Digits, around: str) -> None:
    calibration = preprocess(trained.calibration, SPEC.preprocess)
    recipe = Recipe(precision="int8", around=around, keep_attention=True)  # type: ignore[arg-type]
    proto = Rewriter(onnx.load(trained.onnx), lambda: [calibration]).rewrite(recipe).proto
    onnx.checker.check_model(proto, full_check=True)
    quantized = [node.name for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantized) == 3 * 2
    assert all(".mlp." in name for name in quantized)
    types = element_types(proto)
    products = {
        types[node.output[0]]
        for node in proto.graph.node
        if node.op_type == "MatMul" and node.name.rpartition("/")[0].endswith(".attn")
    }
    assert products == {onnx.TensorProto.FLOAT}
