"""fp16 and bf16 as types in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from tests.precision import planted
from tests.precision.digits import SPEC, Digits, accuracy, export
from vitrify.errors import ArtifactError, OptionError
from vitrify.graphs import element_types
from vitrify.pixels import preprocess
from vitrify.precision import Recipe, Rewriter


def rewriter(path: Path, trained: Digits) -> Rewriter:
    batch = preprocess(trained.calibration, SPEC.preprocess)
    return Rewriter(onnx.load(path), lambda: [batch])


def types_of(proto: onnx.ModelProto) -> Mapping[str, set[int]]:
    """The types that each operator writes."""
    onnx.checker.check_model(proto, full_check=True)
    types = element_types(proto)
    found: dict[str, set[int]] = {}
    for node in proto.graph.node:
        found.setdefault(node.op_type, set()).update(types[name] for name in node.output if name in types)
    return found


def logits(proto: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": batch})[0])


@pytest.mark.parametrize(("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
@pytest.mark.parametrize("opset", [18, 16])
def test_products_in_16_bits_norms_and_softmax_in_32(
    trained: Digits, tmp_path: Path, precision: Any, kind: int, opset: int
) -> None:
    path = trained.onnx if opset == 18 else export(trained.model, tmp_path / "m.onnx", opset=opset)
    found = types_of(rewriter(path, trained).rewrite(Recipe(precision=precision)).proto)
    assert found["MatMul"] == found["Gemm"] == found["Erf"] == {kind}
    assert found["Softmax"] == {TensorProto.FLOAT}
    if opset == 18:
        assert found["LayerNormalization"] == {TensorProto.FLOAT}
    else:
        assert found["ReduceMean"] == found["Sqrt"] == {TensorProto.FLOAT}


def test_options_move_the_border(trained: Digits) -> None:
    made = rewriter(trained.onnx, trained)
    half = TensorProto.FLOAT16
    residual = made.rewrite(Recipe(precision="fp16", residual_fp32=True)).proto
    types = element_types(residual)
    sums = [node for node in residual.graph.node if node.op_type == "Add" and node.name.startswith("blocks.1/")]
    assert len(sums) == 2
    assert {types[node.output[0]] for node in sums} == {TensorProto.FLOAT}
    attention = made.rewrite(Recipe(precision="fp16", attention_fp32=True)).proto
    products = {
        node.name.rpartition("/")[0]: element_types(attention)[node.output[0]]
        for node in attention.graph.node
        if node.op_type == "MatMul"
    }
    assert products["blocks.1.attn"] == TensorProto.FLOAT
    assert products["blocks.1.attn.qkv"] == half
    kept = made.rewrite(Recipe(precision="fp16", keep=("blocks.1",))).proto
    for node in kept.graph.node:
        if node.op_type == "MatMul":
            wanted = TensorProto.FLOAT if node.name.startswith("blocks.1.") else half
            assert element_types(kept)[node.output[0]] == wanted


def test_the_ends_stay_fp32_unless_narrowed(trained: Digits) -> None:
    made = rewriter(trained.onnx, trained)
    batch = preprocess(trained.held_out[:20], SPEC.preprocess)
    wide = made.rewrite(Recipe(precision="fp16")).proto
    narrow = made.rewrite(Recipe(precision="fp16", narrow=True)).proto
    for proto, kind in ((wide, TensorProto.FLOAT), (narrow, TensorProto.FLOAT16)):
        onnx.checker.check_model(proto, full_check=True)
        for value in (*proto.graph.input, *proto.graph.output):
            assert value.type.tensor_type.elem_type == kind
    np.testing.assert_allclose(logits(narrow, batch.astype(np.float16)), logits(wide, batch), atol=0.02, rtol=0.01)
    assert wide.ByteSize() < 0.6 * onnx.load(trained.onnx).ByteSize()


def test_a_narrow_output_that_is_read_inside_too(trained: Digits) -> None:
    proto = onnx.load(trained.onnx)
    softmax = next(node for node in proto.graph.node if node.op_type == "Softmax")
    proto.graph.output.append(onnx.helper.make_tensor_value_info(softmax.output[0], TensorProto.FLOAT, [None] * 4))
    batch = preprocess(trained.held_out[:20], SPEC.preprocess)
    made = Rewriter(proto, lambda: [batch])
    # Its reader computes in fp32, or in fp16 behind a norm's fp32: neither may find the other type under its name.
    for recipe in (Recipe(precision="fp16", narrow=True, attention_fp32=True), Recipe(precision="fp16", narrow=True)):
        narrow = made.rewrite(recipe).proto
        onnx.checker.check_model(narrow, full_check=True)
        assert {v.type.tensor_type.elem_type for v in narrow.graph.output} == {TensorProto.FLOAT16}
        np.testing.assert_allclose(logits(narrow, batch.astype(np.float16)), logits(proto, batch), atol=0.05, rtol=0.02)


@pytest.mark.parametrize("fault", ["residual", "queries"])
def test_what_fp16_cannot_hold_is_measured_and_stays_in_fp32(trained: Digits, tmp_path: Path, fault: str) -> None:
    path = export(getattr(planted, fault)(trained.model), tmp_path / "m.onnx")
    batch = preprocess(trained.held_out, SPEC.preprocess)
    made = rewriter(path, trained)
    # Without the measurement the same rewrite overflows: the fault is real.
    blind = Rewriter(made.source, made.batches, _magnitudes={})
    assert accuracy(logits(blind.rewrite(Recipe(precision="fp16")).proto, batch), trained.labels) < 0.5
    rewritten = made.rewrite(Recipe(precision="fp16"))
    truth = accuracy(logits(made.source, batch), trained.labels)
    assert abs(accuracy(logits(rewritten.proto, batch), trained.labels) - truth) <= 0.005
    assert "too large for fp16" in rewritten.notes[0]


def test_what_cannot_be_rewritten(trained: Digits) -> None:
    made = rewriter(trained.onnx, trained)
    with pytest.raises(OptionError, match=r"no blocks\.7 to keep"):
        made.rewrite(Recipe(precision="int8", keep=("blocks.7",)))
    for precision in ("int8", "fp16"):
        lowered = made.rewrite(Recipe(precision=precision))
        with pytest.raises(OptionError, match="a lower precision already"):
            Rewriter(lowered.proto, made.batches)
    nameless = onnx.load(trained.onnx)
    for node in nameless.graph.node:
        node.name = ""
    with pytest.raises(OptionError, match="no linear layer of a transformer block"):
        Rewriter(nameless, made.batches)


def test_a_model_that_is_broken_already_is_not_blamed_on_precision(trained: Digits) -> None:
    broken = onnx.load(trained.onnx)
    weight = next(w for w in broken.graph.initializer if len(w.dims) == 2)
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    batch = preprocess(trained.calibration, SPEC.preprocess)
    for precision in ("int8", "fp16"):
        with pytest.raises(ArtifactError, match="not finite"):
            Rewriter(broken, lambda: [batch]).rewrite(Recipe(precision=precision))


def test_an_operator_without_a_rule_stays_in_fp32_and_is_named(trained: Digits) -> None:
    proto = onnx.load(trained.onnx)
    last = proto.graph.node[-1]
    proto.graph.node.insert(
        len(proto.graph.node) - 1,
        onnx.helper.make_node("Softsign", [last.input[0]], ["odd"], name="head/Softsign_1"),
    )
    last.input[0] = "odd"
    batch = preprocess(trained.calibration, SPEC.preprocess)
    rewritten = Rewriter(proto, lambda: [batch]).rewrite(Recipe(precision="fp16"))
    assert any("Softsign" in note for note in rewritten.notes)
    assert types_of(rewritten.proto)["Softsign"] == {TensorProto.FLOAT}


def test_norms_in_steps_have_no_halves_around_8_bits(trained: Digits, tmp_path: Path) -> None:
    made = rewriter(export(trained.model, tmp_path / "m.onnx", opset=16), trained)
    with pytest.raises(OptionError, match="opset 16 cannot have fp16 around"):
        made.rewrite(Recipe(precision="int8", around="fp16"))


def test_nothing_left_to_quantize_is_refused(trained: Digits) -> None:
    made = rewriter(trained.onnx, trained)
    with pytest.raises(OptionError, match="nothing is left"):
        made.rewrite(Recipe(precision="int8", keep=made.blocks))


def test_a_matrix_that_two_layers_share(trained: Digits) -> None:
    proto = onnx.load(trained.onnx)
    first, second = (
        next(n for n in proto.graph.node if n.op_type == "MatMul" and n.name.startswith(f"blocks.{block}.mlp.fc1"))
        for block in (0, 1)
    )
    second.input[1] = first.input[1]
    batch = preprocess(trained.calibration, SPEC.preprocess)
    rewritten = Rewriter(proto, lambda: [batch]).rewrite(Recipe(precision="int8")).proto
    onnx.checker.check_model(rewritten, full_check=True)
    truth = logits(proto, batch)
    assert np.abs(logits(rewritten, batch) - truth).max() < 0.2 * np.abs(truth).max()
