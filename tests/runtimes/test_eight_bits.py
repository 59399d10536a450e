"""8-bit files on processors that saturate: refused, proven, or run dequantised. The processor is made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.precision.digits import SPEC, Digits
from vitrify import Classifier
from vitrify.errors import ProcessorError
from vitrify.graphs import saturating_products, write_artifact
from vitrify.pixels import preprocess
from vitrify.precision import Recipe, Rewriter
from vitrify.runtimes import eight_bits, open_runtime, pick_runtime

RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(params=[True, False], ids=["saturates", "exact"])
def saturates(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(eight_bits, "saturates_8bit", lambda: request.param)
    return bool(request.param)


@pytest.fixture(scope="module")
def safe(trained: Digits) -> onnx.ModelProto:
    batch = preprocess(trained.calibration, SPEC.preprocess)
    return Rewriter(onnx.load(trained.onnx), lambda: [batch]).rewrite(Recipe(precision="int8")).proto


@pytest.fixture(scope="module")
def unsafe(safe: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with twice as fine steps: another tool's file, whose neighbouring weights add up to 254."""
    proto = onnx.ModelProto()
    proto.CopyFrom(safe)
    weights = {weight.name: weight for weight in proto.graph.initializer}
    for name, weight in weights.items():
        if name.endswith("_quantized"):
            numbers = numpy_helper.to_array(weight).astype(np.int16) * 2
            scale = weights[f"{name.removesuffix('_quantized')}_scale"]
            halved = numpy_helper.to_array(scale) / 2
            weight.CopyFrom(numpy_helper.from_array(np.clip(numbers, -127, 127).astype(np.int8), name))
            scale.CopyFrom(numpy_helper.from_array(halved.astype(np.float32), scale.name))
    assert saturating_products(proto)
    return proto


def write(proto: onnx.ModelProto, path: Path, *, saturation_free: bool = False) -> Path:
    write_artifact(proto, SPEC.replace(precision="int8", saturation_free=saturation_free), path)
    return path


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_not_proven_is_not_run(
    unsafe: onnx.ModelProto, tmp_path: Path, runtime: str, *, saturates: bool
) -> None:
    path = write(unsafe, tmp_path / "unsafe.onnx")
    if not saturates:
        open_runtime(path, runtime).close()
        return
    with pytest.raises(ProcessorError) as caught:
        open_runtime(path, runtime)
    for part in ("unsafe.onnx", "and 11 more", "got:", "vnni", "--precision fp32"):
        assert part in str(caught.value)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_proven_runs(safe: onnx.ModelProto, tmp_path: Path, runtime: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eight_bits, "saturates_8bit", lambda: True)
        open_runtime(write(safe, tmp_path / "recorded.onnx", saturation_free=True), runtime).close()
        open_runtime(write(safe, tmp_path / "proven.onnx"), runtime).close()  # without a record, from the graph


def test_a_file_without_a_spec_is_looked_at_too(unsafe: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    onnx.save(unsafe, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eight_bits, "saturates_8bit", lambda: True)
        with pytest.raises(ProcessorError, match="foreign"):
            open_runtime(path)


def reference(proto: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    newer = onnx.ModelProto()
    newer.CopyFrom(proto)
    newer.opset_import[0].version = 21  # the evaluator knows Q/DQ since 19; of this graph nothing else changed
    answers: list[np.ndarray] = ReferenceEvaluator(newer).run(None, {"image": batch})  # type: ignore[assignment]
    return answers[0]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_dequantised_it_computes_what_its_numbers_say(
    unsafe: onnx.ModelProto, trained: Digits, tmp_path: Path, runtime: str, *, saturates: bool
) -> None:
    path = write(unsafe, tmp_path / "unsafe.onnx")
    batch = preprocess(trained.held_out[:16], SPEC.preprocess)
    with open_runtime(path, runtime, dequantize=True) as opened:
        got = opened.infer({"image": batch})["logits"]
    want = reference(unsafe, batch)
    # A float that is rounded the other way moves an activation by a step; saturation moves logits by their whole size.
    assert np.median(np.abs(got - want)) < 0.02 * np.abs(want).max()
    assert np.abs(got - want).max() < 0.1 * np.abs(want).max()
    assert (got.argmax(1) == want.argmax(1)).mean() >= 15 / 16


def test_operators_on_integers_cannot_be_dequantised(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 21]>
        net (float[N, 2] image) => (float[N, 1] logits)
        <float s = {0.1}, uint8 u = {0}, int8 z = {0}, int8[2, 1] w = {100, 100}> {
          q = QuantizeLinear (image, s, u)  i = MatMulInteger (q, w, u, z)  logits = Cast <to = 1> (i) }""")
    path = tmp_path / "integers.onnx"
    onnx.save(proto, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eight_bits, "saturates_8bit", lambda: True)
        for dequantize in (True, False):
            with pytest.raises(ProcessorError):
                open_runtime(path, "onnxruntime", dequantize=dequantize)


def test_the_classifier_dequantises_where_fp32_is_asked_for(unsafe: onnx.ModelProto, tmp_path: Path) -> None:
    path = write(unsafe, tmp_path / "unsafe.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eight_bits, "saturates_8bit", lambda: True)
        with pytest.raises(ProcessorError):
            Classifier(path)
        with Classifier(path, precision="fp32") as classify:
            assert classify.runtime.options == pick_runtime(path).options(dequantize=True)


def test_int8_files_of_ours_give_on_this_processor_what_they_give_in_floats(
    safe: onnx.ModelProto, trained: Digits, tmp_path: Path
) -> None:
    path = write(safe, tmp_path / "safe.onnx", saturation_free=True)
    batch = preprocess(trained.held_out[:64], SPEC.preprocess)
    want = reference(safe, batch)
    for runtime in RUNTIMES:
        with open_runtime(path, runtime) as opened:
            got = opened.infer({"image": batch})["logits"]
        assert np.median(np.abs(got - want)) < 0.02 * np.abs(want).max()
        assert (got.argmax(1) == want.argmax(1)).mean() >= 62 / 64
