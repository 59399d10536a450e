"""An ONNX graph as an artifact: with its spec in the model's own metadata."""

from __future__ import annotations

from pathlib import Path

import onnx

from vitrify.errors import OptionError
from vitrify.spec import SPEC_KEY, ModelSpec

_PROTOBUF_LIMIT_BYTES = (1 << 31) - 1


def embed_spec(proto: onnx.ModelProto, spec: ModelSpec) -> None:
    """Writes the spec into `metadata_props` in place, over one that is there."""
    kept = [(entry.key, entry.value) for entry in proto.metadata_props if entry.key != SPEC_KEY]
    onnx.helper.set_model_props(proto, dict([*kept, (SPEC_KEY, spec.to_json())]))
    proto.producer_name = "vitrify"
    proto.producer_version = spec.source.created_by.removeprefix("vitrify ")


def write_graph(proto: onnx.ModelProto, path: Path) -> None:
    """Writes a graph, the same bytes for the same graph.

    Raises:
        OptionError: It does not fit into one file.
    """
    size = proto.ByteSize()
    if size > _PROTOBUF_LIMIT_BYTES:
        raise OptionError(
            "the model does not fit into one ONNX file",
            got=f"{size / 1e9:.2f} GB",
            expected="at most 2.15 GB, protobuf's limit",
            hint="take a smaller architecture",
        )
    path.write_bytes(proto.SerializeToString(deterministic=True))
