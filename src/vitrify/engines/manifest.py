"""`model.engine.json`: what stands beside a plan, because a plan itself says nothing of where it may run.

The plan stays a plain TensorRT plan, which trtexec and Triton load. A plan is code: it may carry host code, and loading
a damaged one can crash the process. So nothing is loaded whose manifest does not name exactly these bytes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrify.engines.audit import Audit
from vitrify.engines.config import BuildConfig
from vitrify.engines.gpu import Gpu
from vitrify.engines.releases import PRODUCTS, Flavour, TensorRt
from vitrify.errors import EngineError, SpecError
from vitrify.files import sha256_of
from vitrify.spec import MANIFEST_SUFFIX, ModelSpec, Precision, Verification, encode
from vitrify.spec.codec import decode

MANIFEST_VERSION = 1
"""Goes up with every change of a field's name or meaning; a reader refuses another one."""


@dataclass(frozen=True, kw_only=True)
class Race:
    """An engine and another one in turns on its GPU, arrays of the host in and out.

    Attributes:
        rival: The other engine's file name.
        rival_sha256: Of the other plan.
        batch: Images in one inference.
        latency_ms: Median of the engine's times.
        speedup: Times faster than the rival: median over the rounds.
        speedup_low: The first quartile of that.
    """

    rival: str
    rival_sha256: str
    batch: int
    latency_ms: float
    speedup: float
    speedup_low: float


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Where a plan comes from, where it may run, and what was measured of it.

    Attributes:
        version: `MANIFEST_VERSION` of the writer.
        onnx: Path of the ONNX file, from the manifest's folder where it lies below it.
        onnx_sha256: Of that file.
        plan_sha256: Of the plan.
        plan_bytes: Of the plan.
        spec: The ONNX file's, with the engine's precision.
        flavour: TensorRT, or TensorRT-RTX.
        tensorrt: Its version.
        versions: Of everything that took part.
        gpu: The GPU that built it; absent where there was none.
        compute_capabilities: GPUs that it was compiled for, such as `8.9`.
        precision: The engine's arithmetic.
        config: How it was built.
        pinned: Layers that were held in fp32.
        date: UTC, ISO 8601.
        build_seconds: What the build took.
        audit: What the build gave.
        verification: What was measured on the GPU; absent where there was none.
        races: What it outran when it was built, for each batch size.
    """

    version: int = MANIFEST_VERSION
    onnx: str
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    spec: ModelSpec
    flavour: Flavour
    tensorrt: str
    versions: dict[str, str]
    gpu: Gpu | None
    compute_capabilities: tuple[str, ...]
    precision: Precision
    config: BuildConfig
    pinned: tuple[str, ...]
    date: str
    build_seconds: float
    audit: Audit
    verification: Verification | None = None
    races: tuple[Race, ...] = ()

    @property
    def product(self) -> str:
        """TensorRT or TensorRT-RTX, with its version."""
        return f"{PRODUCTS[self.flavour]} {self.tensorrt}"

    def to_json(self) -> str:
        """The manifest as JSON text."""
        return json.dumps(encode(self), ensure_ascii=False, allow_nan=False, indent=1) + "\n"

    def onnx_path(self, plan: str | os.PathLike[str]) -> Path:
        """Where the ONNX file lay, as seen from the plan."""
        return Path(plan).parent / self.onnx

    def find_onnx(self, plan: str | os.PathLike[str]) -> Path | None:
        """The ONNX file whose bytes were built: where it lay, or beside the plan; None where it is in neither place."""
        for path in dict.fromkeys((self.onnx_path(plan), Path(plan).with_name(Path(self.onnx).name))):
            if path.is_file() and sha256_of(path) == self.onnx_sha256:
                return path
        return None


def manifest_path(plan: str | os.PathLike[str]) -> Path:
    """`model.engine` to `model.engine.json`."""
    plan = Path(plan)
    return plan.with_name(plan.name + MANIFEST_SUFFIX)


def read_manifest(plan: str | os.PathLike[str]) -> Manifest:
    """Reads the manifest beside a plan, strictly.

    Raises:
        EngineError: There is none, or it cannot be used.
    """
    path = manifest_path(plan)
    again = f"vitrify build MODEL.onnx -o {plan}"
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EngineError(
            f"{plan} has no manifest, and a plan can carry code",
            expected=f"{path} beside it",
            hint=f"{again}; from Python, RuntimeOptions(trusted=True) runs a plan that you made yourself",
        ) from None
    except (OSError, ValueError) as error:
        raise EngineError(f"the manifest {path} cannot be read", got=error, hint=again) from error
    version = data.get("version") if isinstance(data, dict) else None
    if version != MANIFEST_VERSION or isinstance(version, bool):
        raise EngineError(
            f"the manifest {path} has another version", got=version, expected=MANIFEST_VERSION, hint=again
        )
    try:
        return decode(Manifest, data, root="manifest")
    except SpecError as error:
        raise EngineError(
            f"{path} cannot be used: {error.what}", got=error.got, expected=error.expected, hint=again
        ) from error


def require_intact(plan: str | os.PathLike[str], manifest: Manifest) -> None:
    """Holds a plan to its manifest, byte by byte.

    Raises:
        EngineError: These are not the bytes that were built.
    """
    plan = Path(plan)
    size = plan.stat().st_size
    if size != manifest.plan_bytes or sha256_of(plan) != manifest.plan_sha256:
        raise not_intact(plan, manifest, size)


def not_intact(plan: Path, manifest: Manifest, size: int) -> EngineError:
    """What is said of a plan with other bytes than its manifest names.

    Args:
        plan: The plan.
        manifest: Its manifest.
        size: Bytes that the plan has.
    """
    return EngineError(
        f"{plan} is not the plan that its manifest names",
        got=f"{size:,} bytes" if size != manifest.plan_bytes else "the same size, other bytes",
        expected=f"{manifest.plan_bytes:,} bytes with sha256 {manifest.plan_sha256[:12]}…",
        hint=f"copy both files again, or: {rebuild_command(plan)}",
    )


def require_fit(plan: str | os.PathLike[str], manifest: Manifest, trt: TensorRt, gpu: Gpu) -> None:
    """Holds a manifest to this machine.

    Raises:
        EngineError: Built for another TensorRT or GPU; says what differs.
    """
    differences = list(_differences(manifest, trt, gpu))
    if differences:
        raise EngineError(
            f"{plan} was not built for this machine",
            got="; ".join(f"{what}: {have}" for what, have, _ in differences),
            expected="; ".join(f"{what}: {want}" for what, _, want in differences),
            hint=f"{rebuild_command(plan)}  (from {manifest.onnx}, with the same options)",
        )


def rebuild_command(plan: str | os.PathLike[str]) -> str:
    """What a user types to make an engine again."""
    return f"vitrify build {plan} --rebuild"


def _differences(manifest: Manifest, trt: TensorRt, gpu: Gpu) -> list[tuple[str, str, str]]:
    """(what, here, built) for everything that does not fit."""
    found = []
    if trt.release.flavour != manifest.flavour:
        return [("TensorRT", trt.name, PRODUCTS[manifest.flavour])]
    if not _version_fits(manifest, trt.version):
        found.append(("version", trt.version, manifest.tensorrt))
    here = gpu.compute_capability
    if manifest.flavour == "rtx":
        if here not in manifest.compute_capabilities:
            found.append(("compute capability", here, " or ".join(manifest.compute_capabilities)))
        return found
    level = manifest.config.hardware_compatible
    built = manifest.gpu
    if built is None:  # TensorRT builds on a GPU: no build of ours wrote this
        return [("GPU", gpu.name, "none named, so that the manifest fits no machine")]
    if level == "ampere+":
        if _numbers(here) < (8, 0):
            found.append(("compute capability", here, "8.0 or newer"))
    elif here != built.compute_capability:
        found.append(("compute capability", here, built.compute_capability))
    elif level == "none" and gpu.name != built.name:
        found.append(("GPU", gpu.name, built.name))
    return found


def _version_fits(manifest: Manifest, here: str) -> bool:
    if not manifest.config.version_compatible:
        return here == manifest.tensorrt
    return _numbers(here)[0] == _numbers(manifest.tensorrt)[0] and _numbers(here) >= _numbers(manifest.tensorrt)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
