from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch

from tests.conftest import MODEL_KWARGS, tiny_model, tiny_spec
from tests.small import ARCHITECTURE
from vitrify.conversion import EXPORTERS, simplify
from vitrify.graphs import copy_of
from vitrify.graphs.rewrites.class_token import ClassToken

TOKENS, WIDTH = 5, 4
HEADER = '<ir_version: 8, opset_import: ["" : 18]>'


def run(model: onnx.ModelProto, batch: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: batch}))


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    made_by = {name: node.name for node in inferred.node for name in node.output}
    return {
        made_by[value.name]: [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        for value in inferred.value_info
        if value.name in made_by
    }


def rows_of(model: onnx.ModelProto, module: str) -> set[Any]:
    """How many tokens the products of a module compute."""
    return {
        shape[1]
        for name, shape in shapes_of(model).items()
        if name.startswith(f"{module}/MatMul") and "attn/" not in name
    }


@pytest.mark.parametrize(("exporter", "opset"), [("dynamo", 18), ("torchscript", 18), ("torchscript", 16)])
def test_the_last_block_computes_the_class_token_alone(exporter: str, opset: int) -> None:
    model, spec = tiny_model(), tiny_spec()
    graph = simplify(EXPORTERS[exporter](model, spec, opset))
    onnx.checker.check_model(graph, full_check=True)
    tokens = 1 + (32 // 8) ** 2
    for module in ("attn.proj", "mlp.fc1", "mlp.fc2"):
        assert rows_of(graph, f"blocks.0.{module}") == {tokens}
        assert rows_of(graph, f"blocks.1.{module}") == {1}
    assert rows_of(graph, "blocks.1.attn.qkv") == {tokens}, "keys and values are of all tokens"
    for batch in (1, 3):
        images = np.random.default_rng(batch).standard_normal((batch, 3, 32, 32)).astype(np.float32)
        with torch.inference_mode():
            truth = model(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(run(graph, images)[0], truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kwargs",
    [{"global_pool": "avg", "fc_norm": True}, {"global_pool": "avg", "class_token": False, "fc_norm": False}],
    ids=["mean of the patches", "no class token"],
)
def test_a_head_that_reads_all_tokens_gets_all(kwargs: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = timm.create_model(ARCHITECTURE, num_classes=6, **(MODEL_KWARGS | kwargs)).eval()
    graph = simplify(EXPORTERS["dynamo"](model, tiny_spec(), 18))
    assert len(rows_of(graph, "blocks.1.mlp.fc1") | rows_of(graph, "blocks.0.mlp.fc1")) == 1
    assert rows_of(graph, "blocks.1.mlp.fc1") != {1}


def test_two_class_tokens_are_left_alone() -> None:
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=6, **MODEL_KWARGS).eval()
    graph = simplify(EXPORTERS["dynamo"](model, tiny_spec(), 18))
    assert rows_of(graph, "blocks.1.mlp.fc1") == {18}


def graph_of(body: str, *, outputs: str = "float[batch, 4] y") -> onnx.ModelProto:
    """A graph from `x` `[batch, 5, 4]`, with weights whose numbers all differ."""
    rng = np.random.default_rng(0)

    def constant(name: str, *shape: int) -> str:
        values = ", ".join(f"{value:.4f}" for value in rng.standard_normal(int(np.prod(shape))))
        return f"float[{', '.join(map(str, shape))}] {name} = {{{values}}}"

    weights = [
        constant("w", WIDTH, WIDTH),
        constant("b", WIDTH),
        constant("gain", WIDTH),
        constant("places", 1, TOKENS, WIDTH),
        constant("mixing", TOKENS, TOKENS),
        "int64 token = {2}",
        "int64[1] axes = {1}",
        "int64[3] flat = {0, 5, 4}",
        "int64[3] joined = {-1, 5, 8}",
        constant("wide", 2 * WIDTH, WIDTH),
        "int64[4] heads = {0, 5, 2, 2}",
    ]
    text = f"{HEADER} g (float[batch, 5, 4] x) => ({outputs}) <{', '.join(weights)}> {{ {body} }}"
    return onnx.parser.parse_model(text)


GRAPHS = {
    "a linear layer": "a = MatMul(x, w) c = Add(a, b) y = Gather<axis: int = 1>(c, token)",
    "a norm and a residual": (
        "n = LayerNormalization<axis: int = -1>(x, gain, b) a = MatMul(n, w) r = Add(x, a) "
        "y = Gather<axis: int = 1>(r, token)"
    ),
    "numbers of each token's own": (
        "a = MatMul(x, w) p = Add(a, places) e = Erf(p) m = MatMul(e, w) y = Gather<axis: int = 1>(m, token)"
    ),
    "tokens that are mixed": (
        "t = MatMul(x, w) a = MatMul(mixing, t) m = MatMul(a, w) y = Gather<axis: int = 1>(m, token)"
    ),
    "the same tensor twice": "a = MatMul(x, w) s = Mul(a, a) y = Gather<axis: int = 1>(s, token)",
    "heads": (
        "a = MatMul(x, w) h = Reshape(a, heads) t = Transpose<perm: ints = [0, 2, 1, 3]>(h)"
        " s = Softmax<axis: int = -1>(t) u = Transpose<perm: ints = [0, 2, 1, 3]>(s) f = Reshape(u, flat)"
        " m = MatMul(f, w) y = Gather<axis: int = 1>(m, token)"
    ),
    "a norm over tokens": ("s = Softmax<axis: int = 1>(x) m = MatMul(s, w) y = Gather<axis: int = 1>(m, token)"),
}


@pytest.mark.parametrize("body", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_answer_stays(body: str, batch: int) -> None:
    before = graph_of(body)
    after = copy_of(before)
    assert len(ClassToken(after).apply()) == 1
    onnx.checker.check_model(after, full_check=True)
    assert "Slice" in {node.op_type for node in after.graph.node}
    x = np.random.default_rng(1).standard_normal((batch, TOKENS, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(run(after, x)[0], run(before, x)[0], rtol=1e-5, atol=1e-6)
    assert shapes_of_product(after)[1] == 1


def shapes_of_product(model: onnx.ModelProto) -> list[int | str]:
    """Of the last product with a constant."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    last = [node for node in inferred.node if node.op_type == "MatMul" and node.input[1] == "w"][-1]
    found = next(value for value in inferred.value_info if value.name == last.output[0])
    return [d.dim_value or d.dim_param for d in found.type.tensor_type.shape.dim]


def test_what_the_graph_gives_out_is_whole() -> None:
    before = graph_of(
        "y = MatMul(x, w) e = Erf(y) m = MatMul(e, w) z = Gather<axis: int = 1>(m, token)",
        outputs="float[batch, 5, 4] y, float[batch, 4] z",
    )
    after = copy_of(before)
    assert len(ClassToken(after).apply()) == 1
    x = np.random.default_rng(1).standard_normal((2, TOKENS, WIDTH)).astype(np.float32)
    for found, wanted in zip(run(after, x), run(before, x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("e = Erf(x) y = Gather<axis: int = 1>(e, token)", "before y, no product with a constant would get smaller"),
        (
            "a = MatMul(x, w) r = Reshape(a, joined) s = Gather<axis: int = 1>(r, token) y = MatMul(s, wide)",
            "before s, no product with a constant would get smaller",
        ),
        (
            "a = MatMul(x, w) c = Gather<axis: int = 1>(a, token) d = Gather<axis: int = 1>(x, token) y = Add(c, d)",
            "d is one of 2 choices of a token",
        ),
        (
            "a = MatMul(x, w) c = Gather<axis: int = 1>(a, token) m = ReduceMax<keepdims = 0>(a, axes) y = Add(c, m)",
            "not c alone reads the tokens, a",
        ),
    ],
    ids=["no product to save", "images are joined", "two tokens are read", "all tokens are read too"],
)
def test_nothing_is_done_where_nothing_is_saved(reasons: Callable[[], str], body: str, reason: str) -> None:
    before = graph_of(body)
    after = copy_of(before)
    assert ClassToken(after).apply() == ()
    assert after == before
    assert reason in reasons()
