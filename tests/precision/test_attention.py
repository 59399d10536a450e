"""Queries, keys and values with a product each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.precision.digits import SPEC, Digits, accuracy, export
from vitrify.pixels import preprocess
from vitrify.precision import Recipe, Rewriter
from vitrify.precision.attention import split_qkv
from vitrify.precision.linear import linear_layers


def logits(proto: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": batch})[0])


def test_the_function_stays(trained: Digits) -> None:
    proto = onnx.load(trained.onnx)
    batch = preprocess(trained.held_out[:50], SPEC.preprocess)
    before = logits(proto, batch)
    assert split_qkv(proto) == tuple(f"blocks.{n}.attn.qkv" for n in range(3))
    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(logits(proto, batch), before, rtol=1e-4, atol=1e-5)
    layers = linear_layers(proto.graph)
    assert len(layers) == 3 * 6
    assert len({node.name for node in proto.graph.node}) == len(proto.graph.node)
    assert split_qkv(proto) == ()


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
    assert split_qkv(proto) == ()
    assert len(linear_layers(proto.graph)) == 3 * 4


def test_another_form_stays_as_it_is() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 18]>
        two (float[N, 4] x) => (float[N, 12] y) <float[4, 12] w = {0}> { y = MatMul (x, w) }""")
    before = proto.SerializeToString()
    assert split_qkv(proto) == ()
    assert proto.SerializeToString() == before
