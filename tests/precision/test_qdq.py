"""Q/DQ nodes against float64 arithmetic and against ONNX Runtime's own execution."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from tests.precision.digits import SPEC, Digits, accuracy, export
from vitrify.graphs import linear_layers
from vitrify.graphs.rewrites.float_weights import with_float_weights
from vitrify.graphs.rewrites.qdq import FP8, INT8, QuantizedType
from vitrify.pixels import preprocess
from vitrify.precision import Recipe, Rewriter
from vitrify.precision.rounding import weight_scales


def test_fp8_numbers_are_ml_dtypes() -> None:
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * 3
    scale = 3.0 / 448
    want = np.clip(values / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
    np.testing.assert_allclose(FP8.rounded(values, scale), want, rtol=1e-6)
    inside = (np.abs(values) < 3) & (np.abs(values) > 0.5)
    off = np.abs(FP8.rounded(values, scale) - values)[inside] / np.abs(values[inside])
    assert 0.03 < off.max() <= 1 / 16  # three bits of mantissa


def test_a_weight_is_at_most_half_a_step_off() -> None:
    weights = np.random.default_rng(1).standard_normal((64, 32)).astype(np.float32) * np.logspace(-3, 3, 32).astype(
        np.float32
    )
    scales = weight_scales(weights, INT8)
    assert scales.shape == (32,)
    assert (np.abs(INT8.rounded(weights, scales) - weights) <= scales * 0.5001).all()


def test_only_the_linear_layers_of_blocks_are_found(trained: Digits) -> None:
    layers = linear_layers(onnx.load(trained.onnx).graph)
    modules = [f"blocks.{n}.{m}" for n in range(3) for m in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    assert [layer.module for layer in layers] == modules
    assert {(layer.inputs, layer.outputs) for layer in layers} == {(64, 192), (64, 64), (64, 256), (256, 64)}
    every = linear_layers(onnx.load(trained.onnx).graph, blocks_only=False)
    assert [layer.module for layer in every] == [*modules, "head"]


def test_the_trained_model_reads_digits(trained: Digits) -> None:
    session = onnxruntime.InferenceSession(trained.onnx, providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": preprocess(trained.held_out, SPEC.preprocess)})[0]
    assert accuracy(logits, trained.labels) > 0.9


@pytest.mark.parametrize("opset", [18, 16])
def test_float_weights_give_the_same_answers(trained: Digits, tmp_path: Path, opset: int) -> None:
    path = trained.onnx if opset == 18 else export(trained.model, tmp_path / "m.onnx", opset=opset)
    batch = preprocess(trained.calibration, SPEC.preprocess)
    small = Rewriter(onnx.load(path), lambda: [batch]).rewrite(Recipe(precision="int8")).proto
    large = with_float_weights(small)
    onnx.checker.check_model(large, full_check=True)
    assert {w.data_type for w in large.graph.initializer if len(w.dims) == 2} == {onnx.TensorProto.FLOAT}
    answers = [
        onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"image": batch}
        )[0]
        for proto in (small, large)
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("around", ["fp16", "bf16"])
@pytest.mark.parametrize("kind", [INT8, FP8], ids=["int8", "fp8"])
def test_the_scales_in_the_file_are_those_that_weights_were_quantised_by(
    trained: Digits, around: str, kind: QuantizedType
) -> None:
    source = onnx.load(trained.onnx)
    batch = preprocess(trained.calibration, SPEC.preprocess)
    recipe = Recipe(precision=kind.name, around=around, smooth=False, calibrator="max")  # type: ignore[arg-type]
    proto = Rewriter(source, lambda: [batch]).rewrite(recipe).proto
    before = {weight.name: numpy_helper.to_array(weight) for weight in source.graph.initializer}
    stored = {weight.name: weight for weight in proto.graph.initializer}
    scales: dict[str, list[np.ndarray]] = {}
    checked = 0
    for node in proto.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = numpy_helper.to_array(stored[node.input[1]]).astype(np.float32)
        if node.input[0] in stored:
            numbers = numpy_helper.to_array(stored[node.input[0]])
            weights = before[node.input[0].removesuffix("_quantized")]
            off = np.abs(numbers.astype(np.float32) * scale - weights)
            # int8 weights make up for each other: by steps, not by fractions of one.
            assert np.median(off / scale) <= 0.5 if kind is INT8 else (off <= np.abs(weights) / 16 + scale).all()
            checked += 1
        else:
            scales.setdefault(node.name.replace("Dequantize", "Quantize"), []).append(scale)
    assert checked == 3 * 4
    assert len(scales) == 3 * 4
    for into, back in scales.values():
        assert into == back
