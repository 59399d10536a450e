"""An ONNX graph as an artifact: with its spec in the model's own metadata."""

from __future__ import annotations

from pathlib import Path

import onnx

from vitrify.artifacts import Artifact, seal, unsealed
from vitrify.errors import GateError, OptionError
from vitrify.files import atomic_path
from vitrify.spec import SPEC_KEY, ModelSpec

_PROTOBUF_LIMIT_BYTES = (1 << 31) - 1


def embed_spec(proto: onnx.ModelProto, spec: ModelSpec) -> None:
    """Writes the spec into `metadata_props` in place, over one that is there.

    The digest of a file is left out: the graph is in none yet.
    """
    _embed(proto, spec.replace(file_sha256=""))


def _embed(proto: onnx.ModelProto, spec: ModelSpec) -> None:
    kept = [(entry.key, entry.value) for entry in proto.metadata_props if entry.key != SPEC_KEY]
    onnx.helper.set_model_props(proto, dict([*kept, (SPEC_KEY, spec.to_json())]))
    proto.producer_name = "vitrify"
    proto.producer_version = spec.source.created_by.removeprefix("vitrify ")


def write_artifact(proto: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    """Writes a graph with its spec and the file's digest, the same bytes for the same graph.

    Raises:
        OptionError: It does not fit into one file.
    """
    _embed(proto, unsealed(spec))
    size = proto.ByteSize()
    if size > _PROTOBUF_LIMIT_BYTES:
        raise OptionError(
            "the model does not fit into one ONNX file",
            got=f"{size / 1e9:.2f} GB",
            expected="at most 2.15 GB, protobuf's limit",
            hint="take a smaller architecture",
        )
    path.write_bytes(proto.SerializeToString(deterministic=True))
    seal(path)


def place_artifact(proto: onnx.ModelProto, spec: ModelSpec, output: Path) -> None:
    """Writes a graph with its spec, reads the spec back by the reader that everybody uses, and lets the file appear.

    Raises:
        GateError: What was read back differs.
        OptionError: As `write_artifact`.
        StorageError: The file cannot be written; what stood there is still there.
    """
    with atomic_path(output) as temporary:
        write_artifact(proto, spec, temporary)
        written = Artifact.open(temporary)
        written.require_intact()
        if written.spec != spec:
            raise GateError("the spec that was read back differs from the one that was written")
