"""Which artifact runs in which runtime and precision, and whether all are of one model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrify.artifacts import Artifact
from vitrify.benchmark.report import contender_name
from vitrify.errors import ArtifactError, OptionError, VitrifyError
from vitrify.runtimes import RUNTIMES, RuntimeRow, has_native_bf16, pick_runtime, runtimes_for
from vitrify.spec import ModelSpec, Precision


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One artifact in one runtime and precision.

    Attributes:
        path: The file.
        artifact: What came in by the door; None of a damaged file.
        row: The runtime.
        precision: That the runtime is asked for.
        spec: As the file tells it before it is opened; None where only the open model does, or where it is damaged.
    """

    path: Path
    artifact: Artifact | None
    row: RuntimeRow
    precision: Precision
    spec: ModelSpec | None

    @property
    def name(self) -> str:
        """File name, runtime and precision."""
        return contender_name(self.path, self.row.name, self.precision)


def find_contenders(
    artifacts: Sequence[Path], runtimes: Sequence[str], precisions: Sequence[str]
) -> tuple[Contender, ...]:
    """Every artifact in every runtime that was asked for and runs it, in every precision that it has.

    Args:
        artifacts: In the order of the rows.
        runtimes: `all` that are installed, or names; one that runs none of the artifacts is refused.
        precisions: `all`: fp32, and bf16 where the runtime and the processor have it; or names.

    Raises:
        OptionError: Unknown names, the same file twice or two of one name, or nothing to run.
        ArtifactError: No such file, or one that no runtime runs.
    """
    _check_names(artifacts, runtimes)
    found: list[Contender] = []
    for path in artifacts:
        artifact, spec = _opened(path, alone=len(artifacts) == 1), None
        if artifact is not None:
            with contextlib.suppress(VitrifyError):  # a foreign checkpoint, or its row will say so
                spec = artifact.spec
            artifact.release()
        rows = runtimes_for(path, runtimes)
        named = tuple(row for row in rows if "all" in runtimes or row.name in runtimes)
        if not named and len(artifacts) == 1:
            pick_runtime(path, runtimes[0])  # says why
        for row in named:
            kind = row.load()
            found += [
                Contender(path=path, artifact=artifact, row=row, precision=precision, spec=spec)
                for precision in kind.precisions
                if (precision in precisions or ("all" in precisions and _by_default(precision)))
            ]
    if not found:
        raise OptionError(
            "nothing is left to time",
            got=f"--runtime {' '.join(runtimes)} --precision {' '.join(precisions)}",
            expected="a runtime that runs the artifact and has the precision",
            hint="leave one of the options out",
        )
    missing = sorted(set(runtimes) - {"all"} - {contender.row.name for contender in found})
    if missing:
        raise OptionError(
            f"the {missing[0]} runtime runs none of the artifacts in this precision", hint="leave it out of --runtime"
        )
    told = [contender.artifact for contender in found if contender.artifact and contender.spec]
    for artifact in told[1:]:
        told[0].require_same_model(artifact)
    return tuple(found)


def _opened(path: Path, *, alone: bool) -> Artifact | None:
    """None of a damaged file among others: its row will say so, and the others go on."""
    try:
        return Artifact.open(path)
    except ArtifactError:
        if alone or not path.exists():
            raise
        return None


def _by_default(precision: Precision) -> bool:
    # fp16 on a CPU, which PyTorch has, is emulated; asked for by name it runs.
    return precision == "fp32" or (precision == "bf16" and has_native_bf16())


def _check_names(artifacts: Sequence[Path], runtimes: Sequence[str]) -> None:
    known = ["all", *(row.name for row in RUNTIMES)]
    for name in runtimes:
        if name not in known:
            raise OptionError(f"no runtime is called {name!r}", expected=", ".join(known), hint="vitrify doctor")
    names = [path.name for path in artifacts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionError(
            f"two artifacts are called {twice}", hint="rows are told apart by file names: rename or link one of them"
        )
    if not artifacts:
        raise OptionError("no artifact was named", hint="vitrify bench model.onnx model.int8.onnx")
