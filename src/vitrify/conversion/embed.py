"""The spec in an ONNX model's own metadata."""

from __future__ import annotations

import onnx

from vitrify.spec import SPEC_KEY, ModelSpec


def embed_spec(proto: onnx.ModelProto, spec: ModelSpec) -> None:
    """Writes the spec into `metadata_props` in place, over one that is there."""
    kept = [(entry.key, entry.value) for entry in proto.metadata_props if entry.key != SPEC_KEY]
    onnx.helper.set_model_props(proto, dict([*kept, (SPEC_KEY, spec.to_json())]))
    proto.producer_name = "vitrify"
    proto.producer_version = spec.source.created_by.removeprefix("vitrify ")
