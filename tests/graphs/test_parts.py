"""Parts and wiring of an exported graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from vitrify.graphs import GraphIndex, is_block, part_of, part_outputs


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("blocks.3.mlp.fc1/MatMul_41", "blocks.3"),
        ("blocks.11/Add_7", "blocks.11"),
        ("model.blocks.2.attn/Softmax_1", "blocks.2"),
        ("layers.2.blocks.1.attn.qkv/MatMul_1", "layers.2.blocks.1"),
        ("model.layers.0.blocks.1/Add_1", "layers.0.blocks.1"),
        ("patch_embed.proj/Conv_1", "patch_embed"),
        ("head/Gemm_9", "head"),
        ("Concat_4", "embedding and pooling"),
    ],
)
def test_a_name_tells_its_part(name: str, part: str) -> None:
    assert part_of(name) == part
    assert is_block(part) == ("blocks." in part)


def test_each_part_has_one_tensor_that_leaves_it(artifact: Path) -> None:
    graph = onnx.load(artifact).graph
    outputs = part_outputs(graph)
    assert list(outputs) == ["patch_embed", "blocks.0", "blocks.1", "norm", "head"]
    assert outputs["head"] == graph.output[0].name
    index = GraphIndex(graph)
    for block in ("blocks.0", "blocks.1"):
        assert index.made_by[outputs[block]].op_type == "Add"  # the second residual connection
    assert {part_of(reader.name) for reader in index.read_by[outputs["blocks.0"]]} == {"blocks.1"}


def test_constants_and_readers() -> None:
    graph = onnx.parser.parse_graph("""
        two (float[N] x) => (float[N] y) <float[1] w = {2.0}> {
            c = Constant <value = float[1] {3.0}> ()
            a = Mul (x, w)
            y = Add (a, c)
        }""")
    index = GraphIndex(graph)
    for name, value in (("w", 2), ("c", 3)):
        found = index.constant(name)
        assert found is not None
        np.testing.assert_array_equal(found, [value])
        assert index.is_constant(name)
    assert index.constant("a") is None
    assert not index.is_constant("x")
    reader = index.only_reader("a")
    assert reader is not None
    assert reader.op_type == "Add"
    assert index.only_reader("y") is None
