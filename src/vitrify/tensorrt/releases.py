"""What differs between the releases of TensorRT, in one table. Everything else asks the table.

| | 8.5 | 8.6 | 10 | 11 | RTX |
| --- | --- | --- | --- | --- | --- |
| types come from | flags | flags | graph | graph | graph |
| 8-bit weights in the parser | no | no | yes | yes | yes |
| LayerNormalization in the parser | no | yes | yes | yes | yes |
| optimisation level, version- and hardware-compatibility | no | yes | yes | yes | by GPU targets |
| progress and cancellation | no | no | yes | yes | yes |
| several contexts on one optimisation profile | no | no | yes | yes | yes |
| builds without a GPU | no | no | no | no | yes |
| precisions beside fp32 | fp16, int8 | fp16, int8 | fp16, bf16, int8, fp8 | as 10 | as 10 |
| kernels compiled at run time, and a cache of them | no | no | no | no | yes |
| CUDA graphs | yes | yes | yes | yes | no: a build would have to ask for memory that the caller gives |

Sources: each release's notes and Python API pages at https://docs.nvidia.com/deeplearning/tensorrt, and the bindings of
8.5.3 and RTX 1.7 themselves.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrify.artifacts import PRODUCTS, Flavour, FlavourChoice, Gpu
from vitrify.errors import MissingExtraError, OptionError
from vitrify.machine import cache_folder
from vitrify.spec import Precision

MODULES: dict[Flavour, tuple[str, ...]] = {
    "full": ("tensorrt", "tensorrt_bindings"),
    "rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Python modules of each flavour, in the order in which they are tried."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A line of releases that can do the same.

    Attributes:
        name: For messages.
        flavour: Which TensorRT.
        since: First version, major and minor.
        explicit_batch_flag: A network has to be told that its batch axis is an axis.
        strongly_typed: The graph says the types; there are no precision flags. Else flags permit reduced precisions.
        int8_weights: The parser reads weights that are stored in 8 bits; without it, as floats with Q/DQ after them.
        layer_normalization: The parser knows ONNX's LayerNormalization (opset 17); without it, export at opset 16.
        optimization_level: `IBuilderConfig.builder_optimization_level`.
        version_compatible: `BuilderFlag.VERSION_COMPATIBLE`.
        hardware_compatible: `IBuilderConfig.hardware_compatibility_level` for GPUs other than the builder's own.
        compute_capabilities: A plan is compiled for named compute capabilities, without any GPU.
        progress_monitor: `IProgressMonitor`: progress, and a way to stop a build.
        timing_cache: Kernels are timed, and the times can be kept.
        runtime_cache: Kernels are finished on the GPU that runs them, and can be kept: `IRuntimeCache`.
        cuda_graphs: A context's work can be recorded. TensorRT-RTX needs BuilderFlag.REQUIRE_USER_ALLOCATION for it.
        profile_sharing: Several contexts of an engine may use one profile; else each needs an engine of its own.
        precisions: What vitrify builds with it.
    """

    name: str
    flavour: Flavour = "full"
    since: tuple[int, int]
    explicit_batch_flag: bool = False
    strongly_typed: bool = True
    int8_weights: bool = True
    layer_normalization: bool = True
    optimization_level: bool = True
    version_compatible: bool = True
    hardware_compatible: bool = True
    compute_capabilities: bool = False
    progress_monitor: bool = True
    timing_cache: bool = True
    runtime_cache: bool = False
    cuda_graphs: bool = True
    profile_sharing: bool = True
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "fp8")


RELEASES: tuple[Release, ...] = (
    Release(
        name="TensorRT-RTX",
        flavour="rtx",
        since=(1, 0),
        hardware_compatible=False,
        compute_capabilities=True,
        timing_cache=False,  # kernels are chosen without being timed
        runtime_cache=True,
        cuda_graphs=False,
    ),
    Release(name="TensorRT 11", since=(11, 0)),
    Release(name="TensorRT 10", since=(10, 0)),
    Release(
        name="TensorRT 8.6",
        since=(8, 6),
        explicit_batch_flag=True,
        strongly_typed=False,
        int8_weights=False,
        progress_monitor=False,
        profile_sharing=False,  # 8.6 has it as a preview, which the build would have to ask for
        precisions=("fp32", "fp16", "int8"),
    ),
    Release(
        name="TensorRT 8.5",
        since=(8, 5),
        explicit_batch_flag=True,
        strongly_typed=False,
        int8_weights=False,
        layer_normalization=False,
        optimization_level=False,
        version_compatible=False,
        hardware_compatible=False,
        progress_monitor=False,
        profile_sharing=False,
        precisions=("fp32", "fp16", "int8"),
    ),
)
"""Newest first in each flavour."""


@dataclass(frozen=True)
class TensorRt:
    """An imported binding and what it can do.

    Attributes:
        module: NVIDIA's module; the API that all releases share is called on it directly.
        release: The row of the table.
        version: As the binding says it, such as `8.5.3.1`.
    """

    module: Any
    release: Release
    version: str

    @property
    def name(self) -> str:
        """Product and version, for messages and records."""
        return f"{PRODUCTS[self.release.flavour]} {self.version}"

    def flag(self, enum: str, member: str) -> Any:
        """An enum's member, or None where this release does not have it."""
        return getattr(getattr(self.module, enum, None), member, None)

    def cache_file(self, folder: str, gpu: Gpu, suffix: str) -> Path | None:
        """The file that is kept for this version and GPU, of which another version or GPU has no use.

        Args:
            folder: `auto` for vitrify's cache folder, `none` where nothing is kept, or a folder.
            gpu: The GPU.
            suffix: Says what is kept.
        """
        if folder == "none":
            return None
        parent = cache_folder() / "tensorrt" if folder == "auto" else Path(folder)
        key = f"{self.version}-{gpu.name}-sm{gpu.compute_capability.replace('.', '')}"
        return parent / f"{re.sub(r'[^A-Za-z0-9.]+', '_', key)}.{suffix}"


def release_of(flavour: Flavour, version: str) -> Release:
    """The row of a version.

    Raises:
        OptionError: Older than every row.
    """
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    for release in RELEASES:
        if release.flavour == flavour and tuple(numbers) >= release.since:
            return release
    oldest = [release.name for release in RELEASES if release.flavour == flavour][-1]
    raise OptionError("this TensorRT is too old", got=version, expected=f"{oldest} or newer")


def load_tensorrt(choice: FlavourChoice = "auto") -> TensorRt:
    """Imports a binding.

    Args:
        choice: `auto` takes TensorRT itself where it is installed, else TensorRT-RTX.

    Raises:
        MissingExtraError: It is not installed, or its libraries are not.
        OptionError: A release that is too old.
    """
    found = _find(choice)
    if found is None:
        first = _first(choice)
        raise MissingExtraError(f"{PRODUCTS[first]} is not installed", extra="tensorrt", package=MODULES[first][0])
    flavour, name = found
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"{name} is installed, and its libraries cannot be loaded: {error}", extra="tensorrt", package=name
        ) from error
    version = str(getattr(module, "__version__", "0.0"))
    return TensorRt(module, release_of(flavour, version), version)


def _first(choice: FlavourChoice) -> Flavour:
    return "rtx" if choice == "rtx" else "full"


def _find(choice: FlavourChoice) -> tuple[Flavour, str] | None:
    for flavour, names in MODULES.items():
        if choice in ("auto", flavour):
            for name in names:
                if importlib.util.find_spec(name) is not None:
                    return flavour, name
    return None
