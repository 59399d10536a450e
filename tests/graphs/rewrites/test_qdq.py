"""Q/DQ nodes against float64 arithmetic and against ONNX Runtime's own execution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from vitrify.graphs import linear_layers
from vitrify.graphs.rewrites.qdq import FP8, INT8, QuantizedLayers, QuantizedType
from vitrify.precision.rounding import rounded_weights


def one_layer(weights: np.ndarray) -> onnx.ModelProto:
    rows, columns = weights.shape
    model = onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : 21]>
        layer (float[N, {rows}] x) => (float[N, {columns}] y) {{ y = MatMul (x, w) }}""")
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    model.graph.node[0].name = "blocks.0.mlp.fc1/MatMul_0"
    return model


def quantized(weights: np.ndarray, largest: float, kind: QuantizedType) -> onnx.ModelProto:
    model = one_layer(weights)
    layers = linear_layers(model.graph)
    weights_of = rounded_weights(model.graph, layers, kind)
    assert QuantizedLayers(model, kind, ranges={"x": largest}, weights=weights_of).apply() == layers
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_layer_computes_what_its_rounded_numbers_give(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((rows, columns)).astype(np.float32)
    x = rng.standard_normal((5, rows)).astype(np.float32)
    scale = np.float32(2.0 / 127)
    model = quantized(weights, 2.0, INT8)
    stored = {weight.name: numpy_helper.to_array(weight).astype(np.float64) for weight in model.graph.initializer}
    # By the definition of QuantizeLinear and DequantizeLinear, in float64: no product in 16 bits.
    steps = np.clip(np.rint(x / scale), -127, 127).astype(np.float64)
    want = (steps * scale) @ (stored["w_quantized"] * stored["w_scale"])
    got = run(model, x)
    # ONNX Runtime clips at -128, one step further than the weights' -127 and no further than a step of x.
    outside = (np.abs(x) > 2.0).any(axis=1)
    np.testing.assert_allclose(got[~outside], want[~outside], rtol=1e-4, atol=1e-4)


def test_a_layer_of_zeros_stays_zero() -> None:
    assert not run(quantized(np.zeros((4, 3), np.float32), 0.0, INT8), np.ones((2, 4), np.float32)).any()


@pytest.mark.parametrize("kind", [INT8, FP8], ids=["int8", "fp8"])
def test_layers_that_share_an_activation_share_its_nodes(kind: QuantizedType) -> None:
    model = one_layer(np.eye(4, dtype=np.float32))
    model.graph.initializer.append(numpy_helper.from_array(2 * np.eye(4, dtype=np.float32), "v"))
    model.graph.node.append(onnx.helper.make_node("MatMul", ["x", "v"], ["z"], name="blocks.0.mlp.fc1/MatMul_1"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", 1, [None, 4]))
    layers = linear_layers(model.graph)
    weights_of = rounded_weights(model.graph, layers, kind)
    assert QuantizedLayers(model, kind, ranges={"x": 1.0}, weights=weights_of).apply() == layers
    counted = [node.op_type for node in model.graph.node]
    assert counted.count("QuantizeLinear") == 1
    assert counted.count("DequantizeLinear") == 3
    assert {weight.name for weight in model.graph.initializer if weight.data_type == 1 and weight.dims} == {
        "w_scale",
        "v_scale",
    }


@pytest.mark.parametrize(
    ("kind", "opset", "options", "reason"),
    [
        (INT8, 21, {"keep": ["blocks.0"]}, "blocks.0.attn.qkv/MatMul_0 is kept"),
        (INT8, 21, {"keep_attention": True}, "blocks.0.attn.qkv/MatMul_0 is kept"),
        (INT8, 21, {"ranges": {}}, "nothing is known of what blocks.0.attn.qkv/MatMul_0 reads"),
        (FP8, 18, {}, "opset 18 has no fp8, which came with 19"),
    ],
)
def test_what_is_not_quantised_is_told(
    reasons: Callable[[], str], kind: QuantizedType, opset: int, options: dict[str, Any], reason: str
) -> None:
    model = one_layer(np.eye(4, dtype=np.float32))
    model.opset_import[0].version = opset
    model.graph.node[0].name = "blocks.0.attn.qkv/MatMul_0"
    weights = rounded_weights(model.graph, linear_layers(model.graph), kind)
    before = model.SerializeToString()
    given: dict[str, Any] = {"ranges": {"x": 1.0}, "weights": weights} | options
    assert QuantizedLayers(model, kind, **given).apply() == ()
    assert reason in reasons()
    assert model.SerializeToString() == before
