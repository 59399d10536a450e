"""Finds the spec in a file without the libraries that made the file: a few reads, whatever the size of the weights."""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vitrify.errors import ArtifactError, SpecMissingError
from vitrify.spec.model_spec import SPEC_KEY, ModelSpec

_SPEC_LIMIT_BYTES = 16 << 20
"""Of a header, of all metadata: twice a spec. A hostile length must not become an allocation."""


def embedded_spec(path: str | os.PathLike[str], *, content: bytes | None = None) -> ModelSpec:
    """Reads the spec that travels inside a file.

    Args:
        path: `.onnx` or `.safetensors`; an engine's spec stands in its manifest, see `vitrify.artifacts`.
        content: The file's bytes, where they were read already: the spec is theirs, whatever the file holds by now.

    Raises:
        ArtifactError: No such file, a directory, another kind of file, or a truncated one.
        SpecMissingError: A good file that carries no spec.
        SpecError, SpecVersionError: A spec that cannot be used.
    """
    path = Path(path)
    readers = {".onnx": _read_onnx_metadata, ".safetensors": _read_safetensors_metadata}
    if not path.exists():
        raise ArtifactError(f"no such file: {path}", hint="check the path")
    if path.is_dir():
        raise ArtifactError(f"{path} is a directory", expected="an artifact file: " + ", ".join(readers))
    if path.suffix not in readers:
        raise ArtifactError(
            f"cannot tell what {path} is",
            got=f"the suffix {path.suffix!r}",
            expected=" or ".join(readers),
        )
    with path.open("rb") if content is None else io.BytesIO(content) as file:
        metadata = readers[path.suffix](file, path)
    if SPEC_KEY not in metadata:
        raise SpecMissingError(
            f"{path} carries no model spec",
            got=f"metadata keys {sorted(metadata)}" if metadata else "no metadata",
            expected=SPEC_KEY,
            hint="make the artifact with `vitrify export CHECKPOINT -o model.onnx`, which writes the spec into it",
        )
    return ModelSpec.from_json(metadata[SPEC_KEY])


def _size(file: BinaryIO) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def _read_safetensors_metadata(file: BinaryIO, path: Path) -> dict[str, str]:
    # 8 bytes of little-endian length, then that many bytes of JSON: https://github.com/huggingface/safetensors#format
    size = _size(file)
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 2 <= length <= min(size - 8, _SPEC_LIMIT_BYTES):
        raise ArtifactError(f"{path} is no safetensors file", got=f"a header of {length} bytes in a file of {size}")
    try:
        header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        metadata = {str(key): str(value) for key, value in header.get("__metadata__", {}).items()}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"{path} is no safetensors file", got=f"a header that is no tensor table: {error}"
        ) from error
    if max(ends, default=0) != size - 8 - length:
        raise ArtifactError(
            f"{path} is truncated or damaged",
            got=f"{size} bytes",
            expected=f"{max(ends, default=0) + 8 + length}",
            hint="copy or download it again",
        )
    return metadata


# ModelProto of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: field 7 is the graph, field 14 metadata_props,
# each a StringStringEntryProto of key (1) and value (2). Reading the wire format directly skips the weights without
# loading them; https://protobuf.dev/programming-guides/encoding/ is the whole of it.
_GRAPH, _METADATA_PROPS = 7, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _read_onnx_metadata(file: BinaryIO, path: Path) -> dict[str, str]:
    size = _size(file)
    metadata: dict[str, str] = {}
    has_graph, metadata_bytes = False, 0
    try:
        for field, length in _fields(file, size):
            has_graph |= field == _GRAPH
            if field == _METADATA_PROPS:
                metadata_bytes += length
                if metadata_bytes > _SPEC_LIMIT_BYTES:
                    raise ValueError(f"metadata of {metadata_bytes} bytes")
                end = file.tell() + length
                entry = {part: file.read(count) for part, count in _fields(file, end)}
                metadata[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
            else:
                file.seek(length, os.SEEK_CUR)
        if not has_graph:
            raise ValueError("no graph in it")
    except ValueError as error:
        raise ArtifactError(
            f"{path} is no ONNX model, or it is truncated", got=error, hint="copy or export it again"
        ) from error
    return metadata


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Yields (field number, payload length) with the file at the payload; the caller consumes the payload."""
    while file.tell() < end:
        key = _varint(file)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            _varint(file)
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
        if wire == _BYTES:
            length = _varint(file)
        if length < 0 or field == 0 or file.tell() + length > end:
            raise ValueError(f"field {field} of wire type {wire} does not fit at byte {file.tell()} of {end}")
        yield field, length


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("the file ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number of more than ten bytes")
