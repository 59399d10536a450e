"""`verify --layers` has to name the block that differs, and no block before it, whatever gave the two sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import tiny_model, tiny_spec
from tests.verification.changed import PARTS, firsts, rewritten
from vitrify.artifacts import read_spec
from vitrify.checkpoints import save_checkpoint
from vitrify.conversion import export_with_dynamo, export_with_torchscript, simplify
from vitrify.errors import OptionError
from vitrify.graphs import embed_spec
from vitrify.graphs.rewrites.probes import probed_model
from vitrify.spec import golden_recipe_batch
from vitrify.verification import compare_layers


def matrix_weight(model: onnx.ModelProto, node_name: str) -> onnx.TensorProto:
    """The weights of a matrix product, by the module that its node is named after."""
    names = {name for node in model.graph.node if node.name.startswith(node_name) for name in node.input}
    found: onnx.TensorProto = next(w for w in model.graph.initializer if w.name in names and len(w.dims) == 2)
    return found


def to_int4(weight: onnx.TensorProto) -> None:
    values = numpy_helper.to_array(weight)
    step = np.abs(values).max() / 7
    weight.CopyFrom(numpy_helper.from_array((np.round(values / step) * step).astype(np.float32), weight.name))


@pytest.mark.parametrize(
    ("export", "opset"), [(export_with_dynamo, 18), (export_with_torchscript, 18), (export_with_torchscript, 16)]
)
def test_probes_give_what_hooks_in_pytorch_see(export: Any, opset: int, tmp_path: Path) -> None:
    model, spec = tiny_model(), tiny_spec()
    exported = simplify(export(model, spec, opset))
    graph, probes = probed_model(exported)
    assert list(probes) == PARTS
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output.numpy())

    for name, module in model.named_modules():
        if name in PARTS:
            module.register_forward_hook(keep(name))
    model.blocks[0].register_forward_pre_hook(  # type: ignore[index, union-attr]
        lambda module, inputs: seen.__setitem__("embedding", inputs[0].numpy())
    )
    batch = golden_recipe_batch(spec.input_shape)
    with torch.inference_mode():
        model(torch.from_numpy(batch))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for part, found in zip(probes, session.run(list(probes.values()), {spec.input.name: batch}), strict=True):
        whole = seen[part][:, :1] if part in ("blocks.1", "norm") else seen[part]  # the class token is left of these
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5, err_msg=part)

    onnx_file = tmp_path / "m.onnx"
    embed_spec(exported, spec)
    onnx.save(exported, onnx_file)
    save_checkpoint(tmp_path / "m.safetensors", model, spec)
    report = compare_layers(onnx_file, reference=tmp_path / "m.safetensors")
    assert report.passed
    assert (report.only_reference, report.only_artifact, report.other_shapes, report.notes) == ((), (), (), ())
    assert {comparison.runtime for comparison in report.comparisons} == {"openvino", "onnxruntime"}
    for comparison in report.comparisons:
        assert [part.part for part in comparison.parts] == PARTS
        assert max(part.relative_error for part in comparison.parts) < 1e-5


@pytest.mark.parametrize("block", [0, 1])
def test_weights_in_int4_are_found_in_their_block(artifact: Path, tmp_path: Path, block: int) -> None:
    bad = rewritten(
        artifact, tmp_path / "bad.onnx", lambda model: to_int4(matrix_weight(model, f"blocks.{block}.mlp.fc1/"))
    )
    report = compare_layers(bad, reference=artifact)
    assert not report.passed
    assert firsts(report) == {f"blocks.{block}"}
    exact = compare_layers(bad, reference=artifact, runtime="onnxruntime").comparisons[0]
    before = exact.parts[: PARTS.index(f"blocks.{block}")]
    assert [part.relative_error for part in before] == [0] * len(before)


def test_the_numbers_are_those_of_numpy(artifact: Path, tmp_path: Path) -> None:
    bad = rewritten(artifact, tmp_path / "bad.onnx", lambda model: to_int4(matrix_weight(model, "blocks.1.mlp.fc1/")))
    run = compare_layers(bad, reference=artifact, runtime="onnxruntime").comparisons[0]
    batch = golden_recipe_batch(tiny_spec().input_shape)
    sides = []
    for path in (artifact, bad):
        graph, probes = probed_model(onnx.load(path))
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        sides.append(session.run([probes["blocks.1"]], {"image": batch})[0].astype(np.float64))
    truth, other = sides
    part = run.parts[PARTS.index("blocks.1")]
    difference = np.abs(other - truth)
    relative = np.linalg.norm(difference) / np.linalg.norm(truth)
    assert part.relative_error == pytest.approx(relative, rel=1e-9)
    assert part.snr_db == pytest.approx(10 * np.log10((truth**2).sum() / (difference**2).sum()))
    assert part.max_absolute_error == pytest.approx(difference.max())
    assert part.mean_absolute_error == pytest.approx(difference.mean())
    assert (part.worst_image, *part.worst_index) == np.unravel_index(difference.argmax(), difference.shape)
    assert part.worst_channel == (difference**2).sum(axis=(0, 1)).argmax()
    assert (difference.shape[1], part.worst_token) == (1, None)  # the class token is left of the last block
    assert part.reference_magnitude == pytest.approx(np.abs(truth).max())


def overflow(model: onnx.ModelProto) -> None:
    """The residual stream of block 1 times 1e6, through float16."""
    _, probes = probed_model(model)
    name = probes["blocks.1"]
    maker = next(node for node in model.graph.node if name in node.output)
    place = list(model.graph.node).index(maker)
    maker.output[0] = "stream"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e6), "million"))
    added = [
        helper.make_node("Mul", ["stream", "million"], ["large"], name="blocks.1/Mul_900"),
        helper.make_node("Cast", ["large"], ["half"], to=TensorProto.FLOAT16, name="blocks.1/Cast_901"),
        helper.make_node("Cast", ["half"], [name], to=TensorProto.FLOAT, name="blocks.1/Cast_902"),
    ]
    for number, node in enumerate(added):
        model.graph.node.insert(place + 1 + number, node)


def test_an_overflow_is_named_as_what_it_is(artifact: Path, tmp_path: Path) -> None:
    bad = rewritten(artifact, tmp_path / "bad.onnx", overflow)
    report = compare_layers(bad, reference=artifact, runtime="onnxruntime")
    run = report.comparisons[0]
    assert run.first == "blocks.1"
    part = run.parts[PARTS.index("blocks.1")]
    assert part.candidate_inf
    assert "Inf" in part.not_finite
    assert not part.reference_inf
    assert run.parts[PARTS.index("norm")].candidate_nan  # infinity less infinity
    assert np.isfinite([p.relative_error for p in run.parts]).all()
    backwards = compare_layers(artifact, reference=bad, runtime="onnxruntime").comparisons[0]
    assert backwards.first == "blocks.1"
    assert "in the reference" in backwards.parts[PARTS.index("blocks.1")].not_finite


def test_magnitudes_near_the_limit_of_fp16_are_marked(artifact: Path, tmp_path: Path) -> None:
    def large(model: onnx.ModelProto) -> None:
        for weight in model.graph.initializer:
            if weight.name == "blocks.0.mlp.fc2.bias":
                values = numpy_helper.to_array(weight).copy()
                values[5] = 40_000
                weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    run = compare_layers(rewritten(artifact, tmp_path / "m.onnx", large), reference=artifact).comparisons[0]
    marked = [part.part for part in run.parts if part.near_fp16_limit]
    assert marked == ["blocks.0", "blocks.1"]
    assert run.first == "blocks.0"
    assert run.parts[2].worst_channel == 5
    assert run.parts[2].worst_channel_share > 0.99


def with_quantized_input(model: onnx.ModelProto) -> None:
    """Q/DQ before block 1's qkv, in nodes that are named after the module."""
    node = next(node for node in model.graph.node if node.name.startswith("blocks.1.attn.qkv/MatMul"))
    place = list(model.graph.node).index(node)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.05), "scale"))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    given = [node.input[0], "scale", "zero"]
    model.graph.node.insert(
        place, helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"], name="blocks.1.attn.qkv/DQ_8")
    )
    model.graph.node.insert(place, helper.make_node("QuantizeLinear", given, ["q"], name="blocks.1.attn.qkv/Q_7"))
    node.input[0] = "dq"


def test_a_quantized_graph_has_the_same_parts(artifact: Path, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        with_quantized_input(model)
        embed_spec(model, read_spec(artifact).replace(precision="int8"))

    report = compare_layers(rewritten(artifact, tmp_path / "m.int8.onnx", change), reference=artifact)
    for run in report.comparisons:
        assert [part.part for part in run.parts] == PARTS
        assert run.precision == "int8"
        assert run.tolerance == 0.2
        assert run.parts[2].relative_error < 1e-5 < run.parts[3].relative_error
    strict = compare_layers(tmp_path / "m.int8.onnx", reference=artifact, tolerance=1e-5)
    assert firsts(strict) == {"blocks.1"}


def test_a_graph_in_fp16_has_the_same_parts_in_float32(artifact: Path, tmp_path: Path) -> None:
    from tests.tensorrt.graphs import write_fp16

    report = compare_layers(write_fp16(artifact, tmp_path / "m.fp16.onnx"), reference=artifact, runtime="onnxruntime")
    run = report.comparisons[0]
    assert [part.part for part in run.parts] == PARTS
    assert run.precision == "fp16"
    assert report.passed
    assert run.parts[2].relative_error > 1e-5


def test_runtimes_and_precisions_of_one_file(artifact: Path, photos: Path) -> None:
    images = sorted(photos.rglob("*.png"))[:11]
    report = compare_layers(artifact, images=images)
    assert report.reference_runtime == "onnxruntime"
    assert [(run.runtime, run.inputs, run.count) for run in report.comparisons] == [
        ("openvino", "golden", 3),
        ("openvino", "images", 11),
    ]
    assert report.passed
    turned = compare_layers(artifact, reference_runtime="openvino")
    assert [run.runtime for run in turned.comparisons] == ["onnxruntime"]
    bf16 = compare_layers(artifact, precision="bf16").comparisons[0]
    assert bf16.tolerance == 0.08
    with pytest.raises(OptionError, match="nothing to compare"):
        compare_layers(artifact, runtime="onnxruntime")


def test_a_checkpoint_against_its_artifact_and_in_another_precision(checkpoint: Path, artifact: Path) -> None:
    assert compare_layers(checkpoint, reference=artifact).passed
    run = compare_layers(checkpoint, precision="bf16").comparisons[0]
    assert run.runtime == "torch"
    assert 1e-4 < run.parts[2].relative_error < run.tolerance
