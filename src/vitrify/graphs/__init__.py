"""ONNX graphs: who makes and reads which tensor, and which part of the network a node belongs to."""

from vitrify.graphs.index import GraphIndex
from vitrify.graphs.parts import is_block, part_of, part_outputs

__all__ = ["GraphIndex", "is_block", "part_of", "part_outputs"]
