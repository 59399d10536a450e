"""Which part of the network a node belongs to: exported nodes are named after their PyTorch module."""

from __future__ import annotations

import re

import onnx

from vitrify.graphs.index import GraphIndex

_BLOCK = re.compile(r"(?:.*?\b)?((?:\w+\.\d+\.)*blocks\.\d+)")

_OUTSIDE = "embedding and pooling"

EMBEDDING = "embedding"
"""What enters the first block where no module gives it: the tokens, joined and with their positions."""


def part_of(name: str) -> str:
    """The part that a node's name tells: `blocks.3` of `blocks.3.mlp.fc1/MatMul_41`, `head` of `head/Gemm_99`.

    Where a network has stages, as Swin does, a block's name begins with its stage: `layers.0.blocks.1`. What belongs
    to no module of its own is `embedding and pooling`.
    """
    module = name.rpartition("/")[0]
    block = _BLOCK.match(module)
    if block:
        return block.group(1)
    return module.split(".")[0].split("/")[0] or _OUTSIDE


def is_block(part: str) -> bool:
    """Whether a part is a transformer block."""
    return _BLOCK.fullmatch(part) is not None


def part_outputs(graph: onnx.GraphProto) -> dict[str, str]:
    """The tensor that leaves each part of a network, in the network's order.

    Returns:
        A part's name and the tensor: the last one that the part makes and that another part reads, or that the graph
        gives out. For a transformer block it is the residual stream, `[B, tokens, width]`. What stands outside any
        module's part, such as the joining of tokens and positions, is left out.
    """
    index = GraphIndex(graph)
    given_out = {value.name for value in graph.output}
    found: dict[str, str] = {}
    for node in graph.node:
        part = part_of(node.name)
        if part == _OUTSIDE or node.op_type == "Constant":
            continue
        for name in node.output:
            readers = {part_of(reader.name) for reader in index.read_by.get(name, [])}
            if name in given_out or readers - {part}:
                found[part] = name
    return found
