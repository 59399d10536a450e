"""ONNX graphs: who makes and reads which tensor, and which part of the network a node belongs to."""

from vitrify.graphs.index import GraphIndex
from vitrify.graphs.parts import is_block, part_of, part_outputs
from vitrify.graphs.probes import EMBEDDING, probed_model

__all__ = ["EMBEDDING", "GraphIndex", "is_block", "part_of", "part_outputs", "probed_model"]
