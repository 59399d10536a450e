"""ONNX graphs: who makes and reads which tensor, and which part of the network a node belongs to."""

from vitrify.graphs.artifact import embed_spec, write_graph
from vitrify.graphs.index import GraphIndex, drop_unread, opset_of
from vitrify.graphs.parts import is_block, part_of, part_outputs
from vitrify.graphs.probes import EMBEDDING, probed_model

__all__ = [
    "EMBEDDING",
    "GraphIndex",
    "drop_unread",
    "embed_spec",
    "is_block",
    "opset_of",
    "part_of",
    "part_outputs",
    "probed_model",
    "write_graph",
]
