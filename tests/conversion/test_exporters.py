"""The form of the exported graph: what runtimes fuse, and what later steps rely on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from tests.conftest import tiny_model, tiny_spec
from vitrify.conversion import EXPORTERS, check_form, simplify
from vitrify.errors import ArtifactError
from vitrify.graphs import embed_spec
from vitrify.spec import InputSpec, ModelSpec


@pytest.fixture(scope="module", params=sorted(EXPORTERS))
def graph(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return simplify(EXPORTERS[request.param](tiny_model(), tiny_spec()))


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def fused(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The operators of the graph after ONNX Runtime has optimised it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return operators(onnx.load(folder / "optimised.onnx"))


def test_form(graph: onnx.ModelProto) -> None:
    check_form(graph, tiny_spec(), layer_norms=5)
    onnx.checker.check_model(graph, full_check=True)
    counts = operators(graph)
    assert counts["LayerNormalization"] == 5
    assert counts["Softmax"] == counts["Erf"] == 2
    assert counts["MatMul"] + counts["Gemm"] == 2 * 6 + 1
    # One Shape for the class token's batch; no other arithmetic on shapes is left.
    assert counts["Shape"] <= 1
    assert counts["Cast"] == counts["Constant"] == counts["If"] == 0


def test_attention_is_the_pattern_that_runtimes_fuse(graph: onnx.ModelProto) -> None:
    producers = {output: node for node in graph.graph.node for output in node.output}
    consumers = {name: node for node in graph.graph.node for name in node.input}
    for softmax in (node for node in graph.graph.node if node.op_type == "Softmax"):
        scores = producers[softmax.input[0]]
        assert scores.op_type == "MatMul"
        assert [producers[name].op_type for name in scores.input] == ["Mul", "Mul"]
        assert consumers[softmax.output[0]].op_type == "MatMul"


def test_onnxruntime_fuses_gelu_and_the_scale(graph: onnx.ModelProto, tmp_path: Path) -> None:
    counts = fused(graph, tmp_path)
    assert counts["BiasGelu"] + counts["Gelu"] == 2
    assert counts["Erf"] == 0
    assert counts["FusedMatMul"] == 2


def test_nodes_are_named_after_their_modules(graph: onnx.ModelProto) -> None:
    modules = {node.name.rpartition("/")[0] for node in graph.graph.node}
    assert {"patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.norm1", "blocks.1.mlp.fc2", "norm", "head"} <= modules
    assert len({node.name for node in graph.graph.node}) == len(graph.graph.node)


def test_nothing_of_the_exporter_is_left(graph: onnx.ModelProto) -> None:
    assert not graph.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)


def test_a_spec_is_embedded_once(graph: onnx.ModelProto) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    copy.metadata_props.add(key="author", value="somebody")
    for labels in (("a", "b", "c", "d", "e", "f"), tiny_spec().labels):
        embed_spec(copy, tiny_spec(labels))
    found = {entry.key: entry.value for entry in copy.metadata_props}
    assert found.keys() == {"author", "vitrify.spec"}
    assert ModelSpec.from_json(found["vitrify.spec"]) == tiny_spec()


@pytest.mark.parametrize(
    ("layer_norms", "changes", "says"),
    [
        (4, {}, "LayerNormalization"),
        (5, {"labels": ("a", "b")}, "outputs"),
        (5, {"input": InputSpec(name="pixels", height=32, width=32)}, "inputs"),
    ],
)
def test_a_wrong_form_is_refused(
    graph: onnx.ModelProto, layer_norms: int, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ArtifactError, match=says):
        check_form(graph, tiny_spec().replace(**changes), layer_norms=layer_norms)


SHAPES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 64, "num_heads": 2}


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("vit_small_patch14_dinov2", {"init_values": 0.1}),
        ("vit_small_patch14_reg4_dinov2", {"init_values": 0.1}),
        ("vit_base_patch16_gap_224", {}),
        ("vit_base_patch16_clip_quickgelu_224", {}),
        ("vit_base_patch16_siglip_224", {}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("vit_medium_patch16_reg4_gap_256", {}),
    ],
)
def test_the_family_exports_with_dynamo(name: str, kwargs: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=6, **SHAPES, **kwargs).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    proto = simplify(EXPORTERS["dynamo"](model, tiny_spec()))
    norms = sum(isinstance(module, nn.LayerNorm) for module in model.modules())
    assert operators(proto)["LayerNormalization"] == norms
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        batch = np.random.default_rng(count).standard_normal((count, 3, 32, 32), dtype=np.float32)
        with torch.inference_mode():
            want = model(torch.from_numpy(batch)).numpy()
        np.testing.assert_allclose(session.run(None, {"image": batch})[0], want, atol=1e-4, rtol=1e-3)
