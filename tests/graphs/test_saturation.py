"""The proof that 8-bit products cannot saturate, against NumPy with the semantics of the instruction that saturates."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from vitrify.graphs import integer_products, saturating_pairs, saturating_products


def maddubs(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`[M, K]` uint8 times `[K, N]` int8 as VPMADDUBSW does it: neighbours add up in 16 bits and saturate."""
    activations, weights = (np.pad(a, w) for a, w in ((activations, [(0, 0), (0, activations.shape[1] % 2)]),
                                                      (weights, [(0, len(weights) % 2), (0, 0)])))  # fmt: skip
    products = activations[:, :, None].astype(np.int32) * weights[None].astype(np.int32)
    pairs = products[:, 0::2] + products[:, 1::2]
    return np.asarray(np.clip(pairs, -(1 << 15), (1 << 15) - 1).sum(axis=1))


def exact(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return activations.astype(np.int32) @ weights.astype(np.int32)


def worst(weights: np.ndarray) -> np.ndarray:
    """Activations that drive every pair of every output to its ends: 255 where a weight is positive, or negative."""
    return np.concatenate([(weights > 0).T, (weights < 0).T, np.ones_like(weights.T, bool)]).astype(np.uint8) * 255


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 127), st.integers(0, 2**32 - 1))
def test_the_proof_holds_exactly_where_the_instruction_is_exact(rows: int, columns: int, most: int, seed: int) -> None:
    weights = np.random.default_rng(seed).integers(-most, most + 1, (rows, columns)).astype(np.int8)
    right = (maddubs(worst(weights), weights) == exact(worst(weights), weights)).all()
    # 129 * 255 = 32895 saturates; the other way, 128 * 255 does not, and -129 * 255 does.
    assert bool(right) == (saturating_pairs(weights) == 0)


def test_each_pair_counts_and_pairs_begin_at_even_inputs() -> None:
    weights = np.array([[100, 0], [29, 100], [0, 100], [0, 0], [-100, 5]], np.int8)
    assert saturating_pairs(weights) == 1  # 100 + 29; the two hundreds are no neighbours
    weights[1, 0] = 28
    assert saturating_pairs(weights) == 0
    assert saturating_pairs(np.array([[-128], [-1]], np.int8)) == 1
    assert saturating_pairs(np.array([[127], [-127]], np.int8)) == 0


def model(body: str, **weights: np.ndarray) -> onnx.ModelProto:
    parsed = onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : 21, "com.microsoft": 1]>
        net (float[N, 4] x) => (float[N, 2] y)
        <float s = {{0.1}}, int8 z = {{0}}, uint8 u = {{0}}> {{ {body} }}""")
    parsed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    for number, node in enumerate(parsed.graph.node):
        node.name = f"{node.op_type}_{number}"
    return parsed


QDQ = """q = QuantizeLinear (x, s, z)  a = DequantizeLinear (q, s, z)  d = DequantizeLinear (w, s, z)
         y = {product}"""
UNSAFE = np.array([[100, 3], [60, 2], [1, 1], [0, 0]], np.int8)
SAFE = np.array([[100, 3], [-60, 2], [60, 1], [0, 0]], np.int8)


@pytest.mark.parametrize(
    ("body", "weights", "want"),
    [
        (QDQ.format(product="MatMul (a, d)"), UNSAFE, ("MatMul_3",)),
        (QDQ.format(product="MatMul (a, d)"), SAFE, ()),
        (QDQ.format(product="Gemm <transB = 1> (a, d)"), np.ascontiguousarray(UNSAFE.T), ("Gemm_3",)),
        (QDQ.format(product="Gemm <transB = 1> (a, d)"), np.ascontiguousarray(SAFE.T), ()),
        (QDQ.format(product="MatMul (x, d)"), UNSAFE, ()),  # float activations: a product of floats
        (QDQ.format(product="MatMul (a, d)"), UNSAFE.astype(ml_dtypes.float8_e4m3fn), ()),  # no integers
        (QDQ.format(product="MatMul (a, d)"), SAFE.astype(np.uint8), ("MatMul_3",)),  # nothing is proven of these
        ("q = QuantizeLinear (x, s, u)  i = MatMulInteger (q, w, u, z)  y = Cast <to = 1> (i)", UNSAFE,
         ("MatMulInteger_1",)),
        ("q = QuantizeLinear (x, s, u)  i = MatMulInteger (q, w, u, z)  y = Cast <to = 1> (i)", SAFE, ()),
        ("q = QuantizeLinear (x, s, z)  r = QLinearMatMul (q, s, z, w, s, z, s, z)  y = DequantizeLinear (r, s, z)",
         UNSAFE, ("QLinearMatMul_1",)),
        ("y = com.microsoft.DynamicQuantizeMatMul (x, w, s, z)", UNSAFE, ("DynamicQuantizeMatMul_0",)),
        ("v = Identity (w)  " + QDQ.format(product="MatMul (a, e)  e = DequantizeLinear (v, s, z)"), SAFE,
         ("MatMul_4",)),  # weights that are computed
    ],
)  # fmt: skip
def test_products_that_are_not_proven(body: str, weights: np.ndarray, want: tuple[str, ...]) -> None:
    assert saturating_products(model(body, w=weights)) == want


def test_a_convolution_needs_that_no_two_weights_add_up() -> None:
    parsed = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 21]>
        net (float[N, 3, 8, 8] x) => (float[N, 2, M, K] y) <float s = {0.1}, int8 z = {0}>
        { q = QuantizeLinear (x, s, z)  a = DequantizeLinear (q, s, z)  d = DequantizeLinear (w, s, z)
          y = Conv (a, d) }""")
    weights = np.full((2, 3, 2, 2), 64, np.int8)
    for most, want in ((64, 0), (65, 1)):
        weights[0, 0, 0, 0] = most
        del parsed.graph.initializer[2:]
        parsed.graph.initializer.append(numpy_helper.from_array(weights, "w"))
        assert len(saturating_products(parsed)) == want


def test_products_in_subgraphs_count() -> None:
    parsed = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 21]>
        net (bool c, float[N, 4] x) => (float[N, 2] y) <float s = {0.1}, int8 z = {0}> {
          y = If (c) <
            then_branch = g () => (float[N, 2] t) <int8[4, 2] w = {100, 3, 60, 2, 1, 1, 0, 0}> {
              q = QuantizeLinear (x, s, z) a = DequantizeLinear (q, s, z) d = DequantizeLinear (w, s, z)
              t = MatMul (a, d) },
            else_branch = h () => (float[N, 2] e) { e = Identity (x) }
          > }""")
    assert saturating_products(parsed) == ("MatMul",)


def test_operators_on_integers_are_told_apart() -> None:
    assert integer_products(model(QDQ.format(product="MatMul (a, d)"), w=SAFE)) == ()
    body = "q = QuantizeLinear (x, s, u)  i = MatMulInteger (q, w, u, z)  y = Cast <to = 1> (i)"
    assert integer_products(model(body, w=SAFE)) == ("MatMulInteger_1",)
