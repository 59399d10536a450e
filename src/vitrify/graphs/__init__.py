"""ONNX graphs: who makes and reads which tensor, and which part of the network a node belongs to."""

from vitrify.graphs.artifact import embed_spec, write_graph
from vitrify.graphs.index import GraphIndex, opset_of
from vitrify.graphs.parts import is_block, part_of, part_outputs

__all__ = ["GraphIndex", "embed_spec", "is_block", "opset_of", "part_of", "part_outputs", "write_graph"]
