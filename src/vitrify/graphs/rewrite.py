"""What every rewrite of a graph is made of: where it may apply, why it stays away, and what it does."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import onnx

from vitrify.graphs.index import GraphIndex

LOGGER = logging.getLogger("vitrify.graphs")
"""Gets the reason of every refusal, at the level DEBUG."""

Place = TypeVar("Place")


class Rewrite(ABC, Generic[Place]):
    """A rewrite of one ONNX graph, in place.

    Args:
        proto: The model.

    Attributes:
        proto: The model.
        graph: Its graph.
        index: Its wiring before the rewrite.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto, self.graph, self.index = proto, proto.graph, GraphIndex(proto.graph)

    @abstractmethod
    def pattern(self) -> Iterable[Place]:
        """Places in the graph that look as if they were meant, in its order."""

    @abstractmethod
    def check(self, place: Place) -> str:
        """Why a place has to stay as it is; nothing where it may be rewritten."""

    @abstractmethod
    def rewrite(self, places: Sequence[Place]) -> None:
        """Rewrites places that passed the check."""

    def places(self) -> Iterator[Place]:
        """Places that may be rewritten; the reasons of the others are logged."""
        for place in self.pattern():
            if reason := self.check(place):
                LOGGER.debug("%s: %s", type(self).__name__, reason)
            else:
                yield place

    def apply(self) -> tuple[Place, ...]:
        """Rewrites all that may be, and returns it."""
        found = tuple(self.places())
        self.rewrite(found)
        return found
