"""A plan's file: read whole, held to its manifest, and only the bytes that were checked handed on."""

from __future__ import annotations

import hashlib
import os
import weakref
from pathlib import Path

from vitrify.engines.manifest import Manifest, not_intact
from vitrify.errors import ArtifactError, EngineError


class PlanFile:
    """An open plan.

    Where a release gives a profile to one context, each further worker loads the plan again. The file stays open for
    that: a rebuild moves another file to its path, and this one still is what was opened. Its bytes are not kept, for a
    plan can have gigabytes, and on a Jetson the host's memory is the GPU's; they are hashed at each reading instead.

    Args:
        path: The plan.
        manifest: What it is held to; without one, later readings are held to the first.

    Raises:
        ArtifactError: No such file, or one that cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest | None) -> None:
        self._path, self._manifest = Path(path), manifest
        self._sha256 = manifest.plan_sha256 if manifest is not None else ""
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            raise ArtifactError(f"no such file: {path}", hint="check the path") from None
        except OSError as error:
            raise ArtifactError(f"cannot read {path}", got=error.strerror or error, hint="check the path") from error
        weakref.finalize(self, self._file.close)

    def read(self) -> bytes:
        """The whole plan.

        Raises:
            EngineError: These are not the bytes that were built.
        """
        self._file.seek(0)
        content = self._file.read()
        sha256 = hashlib.sha256(content).hexdigest()
        self._sha256 = self._sha256 or sha256
        if sha256 == self._sha256:
            return content
        if self._manifest is not None:
            raise not_intact(self._path, self._manifest, len(content))
        raise EngineError(f"{self._path} has changed since it was opened", hint="open it again")

    def close(self) -> None:
        """Closes the file. Closing twice does nothing."""
        self._file.close()
