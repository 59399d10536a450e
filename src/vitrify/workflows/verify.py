"""`vitrify verify`: a comparison, and what an engine's manifest keeps of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrify.artifacts import ENGINE_SUFFIXES, Artifact, Manifest, manifest_path, read_manifest
from vitrify.errors import EngineError, StorageError
from vitrify.files import atomic_write
from vitrify.pixels import ImageSource
from vitrify.progress import SILENT, Progress
from vitrify.spec import Precision, Result, Verification
from vitrify.verification import verify_artifact
from vitrify.workflows.sign import SIGNATURE_SUFFIX


@dataclass(frozen=True, kw_only=True)
class VerifyResult(Result):
    """What a comparison gave.

    Attributes:
        verification: The measured record; whether it passed is in its checks.
        notes: What the user should know.
    """

    verification: Verification
    notes: tuple[str, ...]


def verify_and_record(
    path: str | os.PathLike[str],
    *,
    reference: str | os.PathLike[str] | None = None,
    images: Sequence[ImageSource] = (),
    runtime: str = "all",
    precision: Precision = "fp32",
    progress: Progress = SILENT,
) -> VerifyResult:
    """Compares an artifact as `verify_artifact` does; an engine that passed keeps the record in its manifest.

    An ONNX file was verified when it was exported, and its record is part of the file. An engine may have been built
    where it could not run, so that its first comparison comes later: its manifest takes the record then. A record gives
    way to one that compared at least the same kinds of inputs.

    Args:
        path: The artifact.
        reference: A checkpoint or another artifact.
        images: Real images.
        runtime: `all`, or one by name.
        precision: Arithmetic that is judged.
        progress: Told of each batch.

    Raises:
        EngineError: An engine whose manifest cannot be used.
        Others: As `verify_artifact`.
    """
    path = Path(path)
    manifest = Artifact.open(path).manifest if path.suffix in ENGINE_SUFFIXES and path.is_file() else None
    verification = verify_artifact(
        path, reference=reference, images=images, runtime=runtime, precision=precision, progress=progress
    )
    notes = [_record(path, manifest, verification)] if manifest is not None else []
    return VerifyResult(verification=verification, notes=tuple(note for note in notes if note))


def _record(path: Path, manifest: Manifest, verification: Verification) -> str:
    """Puts a record into the manifest; says why where it did not, and nothing where that was to be expected."""
    if not all(check.passed for check in verification.checks):
        return ""
    if manifest_path(path).with_name(manifest_path(path).name + SIGNATURE_SUFFIX).exists():
        return "the manifest is signed: it keeps its own record"
    if manifest.verification is not None:
        kept, new = ({check.inputs for check in record.checks} for record in (manifest.verification, verification))
        if not kept <= new:
            return f"the manifest keeps its record, which also compared {' and '.join(sorted(kept - new))} inputs"
    try:
        if read_manifest(path) != manifest:
            return "the engine was rebuilt meanwhile: its manifest keeps its own record"
        text = dataclasses.replace(manifest, verification=verification).to_json()
        atomic_write(manifest_path(path), text)
    except (EngineError, StorageError) as error:
        return f"the record is not kept: {error.what}"
    return ""
