"""A Concat in place of the Where that the tracer writes for the -1 in `expand`, where its condition is known.

TensorRT 8.5 takes few operators on shapes, and a constant of truth values is no usual one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

from vitrify.graphs import Rewrite, drop_unread


class KnownSizes(Rewrite[onnx.NodeProto]):
    """Puts each known size where the Where would choose it."""

    def pattern(self) -> Iterator[onnx.NodeProto]:
        """A Where that chooses among joined sizes."""
        for node in self.graph.node:
            sizes = self.index.made_by.get(node.input[2]) if node.op_type == "Where" else None
            if sizes is not None and sizes.op_type == "Concat":
                yield node

    def check(self, place: onnx.NodeProto) -> str:
        """Condition and choice are constants, of one number for each piece that is joined."""
        condition, chosen, other = place.input
        if not {condition, chosen} <= self.index.weights.keys():
            return f"what {place.name} chooses is computed"
        lengths = {self._flat(condition).size, self._flat(chosen).size, len(self.index.made_by[other].input)}
        return "" if len(lengths) == 1 else f"{place.name} chooses from pieces of several numbers"

    def rewrite(self, places: Sequence[onnx.NodeProto]) -> None:
        """The Concat itself goes where nobody else reads it."""
        for node in places:
            condition, chosen, other = node.input
            sizes = self.index.made_by[other]
            pieces = list(sizes.input)
            for axis in self._flat(condition).nonzero()[0]:
                pieces[axis] = f"{node.output[0]}_{axis}"
                self.graph.initializer.append(
                    numpy_helper.from_array(self._flat(chosen)[axis : axis + 1], pieces[axis])
                )
            name = node.name.replace("Where", "Concat")
            node.CopyFrom(onnx.helper.make_node("Concat", pieces, node.output, name=name, axis=0))
            if other not in {name for reader in self.graph.node for name in reader.input}:
                self.graph.node.remove(sizes)
        if places:
            drop_unread(self.graph)

    def _flat(self, name: str) -> npt.NDArray[Any]:
        return numpy_helper.to_array(self.index.weights[name]).reshape(-1)
