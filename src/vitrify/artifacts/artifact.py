"""What a file is, whether its bytes may be given to a runtime, its spec and its digest."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from pathlib import Path
from typing import Literal

from vitrify import _native
from vitrify.artifacts.integrity import require_sealed
from vitrify.artifacts.manifest import (
    ENGINE_SUFFIXES,
    Manifest,
    manifest_path,
    not_intact,
    read_manifest,
    rebuild_command,
)
from vitrify.errors import ArtifactError, OptionError, SpecMissingError
from vitrify.files import sha256_of
from vitrify.spec import ModelSpec, Precision, embedded_spec

Kind = Literal["onnx", "engine", "checkpoint"]

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".npz")

_KINDS: dict[str, Kind] = {
    ".onnx": "onnx",
    **dict.fromkeys(ENGINE_SUFFIXES, "engine"),
    **dict.fromkeys(CHECKPOINT_SUFFIXES, "checkpoint"),
}

_LIMIT_BYTES = (1 << 31) - 1
"""Of an ONNX file: protobuf's own."""


class Artifact:
    """A file that came in through `Artifact.open`.

    An ONNX file is read once and whole, and what is not a flat graph of known operators with its weights inside is
    refused before any runtime sees it: a tensor may otherwise name a file of the machine or an address of the process.
    Runtimes get these bytes, so that nobody can change them in between.

    Attributes:
        path: Where it lies.
        kind: `onnx`, `engine` or `checkpoint`; a folder is a checkpoint.
    """

    def __init__(self, path: Path, kind: Kind, content: bytes | None) -> None:
        self.path, self.kind, self._content = path, kind, content

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Artifact:
        """Looks at a file.

        Raises:
            ArtifactError: No such file, no regular file, a kind that nothing here reads, or an ONNX file with anything
                else in it than vitrify writes.
        """
        path = Path(path)
        if path.is_dir():
            return cls(path, "checkpoint", None)
        if not path.exists():
            built = manifest_path(path).is_file()
            raise ArtifactError(f"no such file: {path}", hint=rebuild_command(path) if built else "check the path")
        if not path.is_file():
            raise ArtifactError(f"{path} is no regular file", expected="a file with its bytes on a disk")
        kind = _KINDS.get(path.suffix.lower())
        if kind is None:
            raise ArtifactError(
                f"cannot tell what {path} is", got=f"the suffix {path.suffix!r}", expected=" or ".join(_KINDS)
            )
        return cls(path, kind, _checked_onnx(path) if kind == "onnx" else None)

    @property
    def content(self) -> bytes:
        """The bytes of an ONNX file, checked.

        Raises:
            OptionError: Of another kind.
        """
        if self.kind != "onnx":
            raise OptionError(f"{self.path} is no ONNX file", got=self.kind, expected="onnx")
        if self._content is None:
            self._content = _checked_onnx(self.path)
        return self._content

    def release(self) -> None:
        """Frees the bytes, which a runtime that is open has in its own form; who asks again has them read again."""
        self._content = None

    @functools.cached_property
    def spec(self) -> ModelSpec:
        """What the file says of itself, parsed once.

        Raises:
            SpecMissingError, SpecError, SpecVersionError: It says nothing, or nothing that can be used.
            ArtifactError: A kind of file that carries no spec, or a damaged one.
            EngineError: As `manifest`.
        """
        return self.manifest.spec if self.kind == "engine" else embedded_spec(self.path, content=self._content)

    @property
    def precision(self) -> Precision:
        """The file's own arithmetic; raises as `spec`."""
        return self.spec.precision

    @functools.cached_property
    def manifest(self) -> Manifest:
        """What stands beside an engine, read once.

        Raises:
            EngineError: There is none, or it cannot be used.
            OptionError: Of another kind.
        """
        if self.kind != "engine":
            raise OptionError(f"{self.path} is no engine", got=self.kind, expected=" or ".join(ENGINE_SUFFIXES))
        return read_manifest(self.path)

    @functools.cached_property
    def sha256(self) -> str:
        """Of the file, 64 hexadecimal digits; empty for a folder."""
        if self._content is not None:
            return hashlib.sha256(self._content).hexdigest()
        return "" if self.path.is_dir() else sha256_of(self.path)

    @property
    def weights_sha256(self) -> str:
        """Of the checkpoint that the weights come from, 64 hexadecimal digits; empty where that is not known."""
        return self.sha256 if self.kind == "checkpoint" else self.spec.source.checkpoint_sha256

    def require_intact(self) -> None:
        """Holds the file to the digest that it was written with, an engine to its manifest's; others pass.

        Raises:
            ArtifactError: Its bytes are not those that were written.
            EngineError: The same of an engine; or as `manifest`.
        """
        if self.kind == "engine":
            if self.size_bytes != self.manifest.plan_bytes or self.sha256 != self.manifest.plan_sha256:
                raise not_intact(self.path, self.manifest, self.size_bytes)
        elif self.path.suffix in (".onnx", ".safetensors"):
            with contextlib.suppress(SpecMissingError):
                require_sealed(self.path, self.spec)

    def require_same_model(
        self, other: Artifact, *, spec: ModelSpec | None = None, other_spec: ModelSpec | None = None
    ) -> None:
        """Refuses another artifact unless it is of the same model: the same weights, which answer the same question.

        Args:
            other: What is to be compared with this one, in whatever form and precision.
            spec: This one's, where only the open model tells it, as a foreign checkpoint's.
            other_spec: The other's.

        Raises:
            OptionError: They are of different models; says what differs.
            Others: As `spec`.
        """
        mine, its = spec or self.spec, other_spec or other.spec
        weights = self.weights_sha256, other.weights_sha256
        for what, here, there in (
            ("architectures", mine.source.architecture, its.source.architecture),
            ("input shapes", mine.input_shape, its.input_shape),
            ("labels", mine.labels, its.labels),
            ("preprocessing", mine.preprocess, its.preprocess),
            ("tasks", mine.output.task, its.output.task),
            ("checkpoints", *(weights if all(weights) else ("", ""))),
        ):
            if here != there:
                got, expected = _where_they_differ(there, here)
                raise OptionError(
                    f"{other} and {self} are of different models: their {what} differ",
                    got=got,
                    expected=expected,
                    hint="name artifacts that were made from one checkpoint",
                )

    @property
    def size_bytes(self) -> int:
        """Of the file, or of all files of a folder."""
        if self.path.is_dir():
            return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())
        return self.path.stat().st_size

    def __str__(self) -> str:
        return str(self.path)


def _where_they_differ(got: object, expected: object) -> tuple[str, str]:
    """Both, as short as an error message has to be: of two lists of labels, those that differ."""
    sides = [got, expected]
    if isinstance(got, tuple) and isinstance(expected, tuple) and len(got) == len(expected) > 3:
        pairs = [pair for pair in zip(got, expected, strict=True) if pair[0] != pair[1]]
        sides = [tuple(pair[side] for pair in pairs[:5]) for side in (0, 1)]
    texts = [", ".join(map(str, side)) if isinstance(side, tuple) else str(side) for side in sides]
    return tuple(text if len(text) <= 120 else text[:119] + "…" for text in texts)  # type: ignore[return-value]


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """Reads the spec of an artifact in a few reads, whatever the size of its weights; nothing else is looked at.

    Args:
        path: `.onnx` or `.safetensors`; or `.engine` or `.plan`, with its manifest beside it.

    Raises:
        ArtifactError: No such file, a directory, another kind of file, or a truncated one.
        EngineError: An engine without a manifest that can be used.
        SpecMissingError: A good file that carries no spec.
        SpecError, SpecVersionError: A spec that cannot be used.
    """
    path = Path(path)
    return read_manifest(path).spec if path.suffix in ENGINE_SUFFIXES and path.exists() else embedded_spec(path)


def _checked_onnx(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _LIMIT_BYTES:
            raise ArtifactError(
                f"{path} is too large for an ONNX file", got=f"{size:,} bytes", expected=f"{_LIMIT_BYTES:,}"
            )
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}", got=error.strerror or error, hint="check its permissions") from error
    fault = _native.onnx_fault(content)
    if fault is not None:
        got, expected = fault
        raise ArtifactError(
            f"{path} is no ONNX file that vitrify runs",
            got=got,
            expected=expected,
            hint="export the checkpoint again with vitrify export; a file of somebody else may do harm",
        )
    return content
