"""ONNX graphs: who makes and reads which tensor, and which part of the network a node belongs to."""

from vitrify.graphs.artifact import embed_spec, write_graph
from vitrify.graphs.cost import GraphCost, graph_cost, node_flops, shaped_model, tensor_shapes
from vitrify.graphs.index import GraphIndex, drop_unread, opset_of
from vitrify.graphs.parts import is_block, part_of, part_outputs
from vitrify.graphs.probes import EMBEDDING, probed_model

__all__ = [
    "EMBEDDING",
    "GraphCost",
    "GraphIndex",
    "drop_unread",
    "embed_spec",
    "graph_cost",
    "is_block",
    "node_flops",
    "opset_of",
    "part_of",
    "part_outputs",
    "probed_model",
    "shaped_model",
    "tensor_shapes",
    "write_graph",
]
