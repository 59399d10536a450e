"""ONNX graphs: who makes and reads which tensor, and which part of the network a node belongs to."""

from vitrify.graphs.artifact import embed_spec, place_artifact, write_artifact
from vitrify.graphs.cost import GraphCost, graph_cost, node_flops, shaped_model, tensor_shapes
from vitrify.graphs.index import GraphIndex, copy_of, drop_unread, opset_of
from vitrify.graphs.parts import is_block, part_of, part_outputs
from vitrify.graphs.probes import EMBEDDING, probed_model
from vitrify.graphs.saturation import (
    PAIR_LIMIT,
    eight_bit_products,
    integer_products,
    saturating_pairs,
    saturating_products,
)

__all__ = [
    "EMBEDDING",
    "PAIR_LIMIT",
    "GraphCost",
    "GraphIndex",
    "copy_of",
    "drop_unread",
    "eight_bit_products",
    "embed_spec",
    "graph_cost",
    "integer_products",
    "is_block",
    "node_flops",
    "opset_of",
    "part_of",
    "part_outputs",
    "place_artifact",
    "probed_model",
    "saturating_pairs",
    "saturating_products",
    "shaped_model",
    "tensor_shapes",
    "write_artifact",
]
