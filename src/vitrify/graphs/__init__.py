"""ONNX graphs: who makes and reads which tensor, and which part of the network a node belongs to."""

from vitrify.graphs.artifact import embed_spec, place_artifact, write_artifact
from vitrify.graphs.cost import GraphCost, graph_cost, node_flops, shaped_model, tensor_shapes
from vitrify.graphs.index import GraphIndex, copy_of, drop_unread, element_types, opset_of
from vitrify.graphs.linear import FloatArray, LinearLayer, linear_layers, matrix, replace_weight
from vitrify.graphs.parts import EMBEDDING, is_block, part_of, part_outputs
from vitrify.graphs.rewrite import LOGGER, Rewrite
from vitrify.graphs.saturation import (
    PAIR_LIMIT,
    eight_bit_products,
    integer_products,
    saturating_pairs,
    saturating_products,
)

__all__ = [
    "EMBEDDING",
    "FloatArray",
    "GraphCost",
    "GraphIndex",
    "LOGGER",
    "LinearLayer",
    "PAIR_LIMIT",
    "Rewrite",
    "copy_of",
    "drop_unread",
    "eight_bit_products",
    "element_types",
    "embed_spec",
    "graph_cost",
    "integer_products",
    "is_block",
    "linear_layers",
    "matrix",
    "node_flops",
    "opset_of",
    "part_of",
    "part_outputs",
    "place_artifact",
    "replace_weight",
    "saturating_pairs",
    "saturating_products",
    "shaped_model",
    "tensor_shapes",
    "write_artifact",
]
