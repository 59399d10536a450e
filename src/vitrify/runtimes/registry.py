"""The table of runtimes. Adding one is a file and a row; the contract tests find it here."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrify.artifacts import CHECKPOINT_SUFFIXES, ENGINE_SUFFIXES, Artifact
from vitrify.errors import ArtifactError, MissingExtraError, OptionError
from vitrify.runtimes.base import Runtime, RuntimeOptions
from vitrify.tensorrt.releases import MODULES


@dataclass(frozen=True)
class RuntimeRow:
    """One runtime.

    Attributes:
        name: What `--runtime` takes.
        target: `module:Class`, imported on first use.
        suffixes: Files that it runs.
        package: The module that has to be importable.
        extra: Which extra of vitrify installs that module; empty where vitrify itself does.
        or_packages: Other modules, one of which does as well.
        by_name: Whether it runs only what names it: neither `auto` nor `all` does.
        hint: How to get its package, where that is no extra.
    """

    name: str
    target: str
    suffixes: tuple[str, ...]
    package: str
    extra: str = ""
    or_packages: tuple[str, ...] = ()
    by_name: bool = False
    hint: str = ""

    @property
    def installed(self) -> bool:
        """Whether its package can be imported, found out without importing it."""
        return any(importlib.util.find_spec(name) is not None for name in (self.package, *self.or_packages))

    def load(self) -> type[Runtime]:
        """Imports the class.

        Raises:
            MissingExtraError: Its package is not installed.
        """
        if not self.installed:
            raise MissingExtraError(
                f"the {self.name} runtime needs another package",
                extra=self.extra,
                package=self.package,
                hint=self.hint or None,
            )
        module, _, name = self.target.partition(":")
        loaded: type[Runtime] = getattr(importlib.import_module(module), name)
        return loaded

    def options(self, **given: Any) -> RuntimeOptions:
        """Options of this runtime, of those that were given: a value of None was not.

        Raises:
            OptionError: One that this runtime does not understand; names the runtimes that do.
            MissingExtraError: As `load`.
        """
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in given.items():
            if name not in self._names():
                others = [row.name for row in RUNTIMES if row.installed and name in row._names()]
                raise OptionError(
                    f"the {self.name} runtime has no option {name}",
                    got=f"{name}={value if isinstance(value, str | int) else type(value).__name__}",
                    expected=f"the runtime {' or '.join(others)}" if others else ", ".join(sorted(self._names())),
                    hint="leave the option out",
                )
        return self.load().options_type(**given)

    def understood(self, **given: Any) -> dict[str, Any]:
        """Those options that this runtime understands, of some that were meant for several runtimes."""
        return {name: value for name, value in given.items() if name in self._names()}

    def _names(self) -> set[str]:
        return {field.name for field in dataclasses.fields(self.load().options_type)}


_ANY = tuple(name for names in MODULES.values() for name in names)
"""Bindings of TensorRT, one of which is enough."""

RUNTIMES: tuple[RuntimeRow, ...] = (
    RuntimeRow("openvino", "vitrify.runtimes.openvino:OpenVinoRuntime", (".onnx",), "openvino"),
    RuntimeRow(
        "cuda",
        "vitrify.runtimes.cuda:CudaRuntime",
        (".onnx",),
        "vitrify._cuda",
        by_name=True,
        hint="build vitrify with it: docs/how-to/cuda.md",
    ),
    RuntimeRow("onnxruntime", "vitrify.runtimes.onnxruntime:OnnxRuntime", (".onnx",), "onnxruntime"),
    RuntimeRow("tensorrt", "vitrify.runtimes.tensorrt:TensorRtRuntime", ENGINE_SUFFIXES, "tensorrt", "tensorrt", _ANY),
    RuntimeRow("torch", "vitrify.runtimes.torch:TorchRuntime", CHECKPOINT_SUFFIXES, "torch", "train"),
)
"""In the order of preference that `auto` follows."""


def runtimes_for(path: str | os.PathLike[str], named: Collection[str] = ()) -> tuple[RuntimeRow, ...]:
    """The installed runtimes that can run a file of this suffix, best first. A folder is a checkpoint folder.

    Args:
        path: The file.
        named: Names of runtimes that are asked for; one that has to be named is left out where it is not.

    Raises:
        ArtifactError: No runtime, installed or not, runs such a file.
        MissingExtraError: A runtime for it exists, and its package is not installed.
    """
    path = Path(path)
    rows = [
        row
        for row in RUNTIMES
        if (path.suffix in row.suffixes or (path.is_dir() and row.name == "torch"))
        and (not row.by_name or row.name in named)
    ]
    if not rows and not path.exists():
        raise ArtifactError(f"no such file: {path}", hint="check the path")
    if not rows:
        raise ArtifactError(
            f"no runtime runs {path}",
            got=f"the suffix {path.suffix!r}",
            expected=", ".join(sorted({suffix for row in RUNTIMES for suffix in row.suffixes})),
        )
    installed = tuple(row for row in rows if row.installed)
    if not installed:
        rows[0].load()
    return installed


def exact_runtime_for(path: str | os.PathLike[str]) -> RuntimeRow:
    """The installed runtime that follows a file's own types to the letter: what others are compared with.

    Raises:
        ArtifactError, MissingExtraError: As `runtimes_for`.
    """
    # OpenVINO chooses kernels by hints, and comes first for its speed; ONNX Runtime comes last and does as it is told.
    return runtimes_for(path)[-1]


def pick_runtime(path: str | os.PathLike[str], name: str = "auto") -> RuntimeRow:
    """Chooses a runtime for a file by name, or the best one with `auto`.

    Raises:
        OptionError: No such runtime, or one that cannot run this file.
        ArtifactError, MissingExtraError: As `runtimes_for`.
    """
    if name == "auto":
        return runtimes_for(path)[0]
    rows = {row.name: row for row in RUNTIMES}
    if name not in rows:
        raise OptionError(f"no runtime is called {name!r}", expected=", ".join(["auto", *rows]))
    row = rows[name]
    if Path(path).suffix not in row.suffixes and not (Path(path).is_dir() and name == "torch"):
        raise OptionError(
            f"the {name} runtime cannot run {path}",
            expected=" or ".join(row.suffixes),
            hint="leave --runtime out, or name an artifact of that kind",
        )
    return row


def open_runtime(artifact: Artifact | str | os.PathLike[str], name: str = "auto", **options: Any) -> Runtime:
    """Picks a runtime and opens it on a file; close it, or use it as a context manager.

    Args:
        artifact: What to run, or its path.
        name: `auto`, or a runtime's name.
        options: Of the runtime that is picked, as its options class has them: `precision` of every one, `threads`,
            `dequantize`, `device`, `like`, `trusted`, `pixels`, `cuda_graphs`, `kernel_cache`. None is its default.

    Raises:
        OptionError: As `pick_runtime`, or an option that this runtime does not understand.
        ArtifactError, MissingExtraError: As `pick_runtime`.
        RuntimeFailureError: The runtime refuses the file.
    """
    row = pick_runtime(artifact.path if isinstance(artifact, Artifact) else artifact, name)
    return row.load()(artifact, row.options(**options)).open()


@functools.cache
def has_native_bf16() -> bool:
    """Whether this processor multiplies bf16 natively (AVX512-BF16, AMX or Arm's BF16), as OpenVINO sees it.

    False where OpenVINO is not installed: then nothing here could make use of it.
    """
    if importlib.util.find_spec("openvino") is None:
        return False
    from vitrify.runtimes.openvino import core

    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
