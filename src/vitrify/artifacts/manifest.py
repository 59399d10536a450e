"""`model.engine.json`: what stands beside a plan, because a plan itself says nothing of where it may run.

The plan stays a plain TensorRT plan, which trtexec and Triton load. A plan is code: it may carry host code, and loading
a damaged one can crash the process. So nothing is loaded whose manifest does not name exactly these bytes.
"""

from __future__ import annotations

import collections
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vitrify.errors import EngineError, OptionError, SpecError
from vitrify.files import sha256_of
from vitrify.spec import ModelSpec, Precision, Verification, encode
from vitrify.spec.codec import decode
from vitrify.text import for_shell

ENGINE_SUFFIXES = (".engine", ".plan")
"""Of TensorRT plans."""

MANIFEST_VERSION = 1
"""Goes up with every change of a field's name or meaning; a reader refuses another one."""

_LIMIT_BYTES = 16 << 20
"""Of a manifest: a spec and some thousand layers have a tenth of it."""

Flavour: TypeAlias = Literal["full", "rtx"]
"""`full`: TensorRT itself, which times kernels on the GPU. `rtx`: TensorRT-RTX, which compiles ahead for named GPUs."""

FlavourChoice: TypeAlias = Literal["auto", "full", "rtx"]
EnginePrecision: TypeAlias = Literal["auto", "fp32", "fp16", "bf16", "int8", "fp8"]
HardwareCompatibility: TypeAlias = Literal["none", "ampere+", "same-compute-capability"]

PRODUCTS: dict[Flavour, str] = {"full": "TensorRT", "rtx": "TensorRT-RTX"}
"""What NVIDIA calls each flavour."""

ATTENTION = re.compile(r"mha|fused_attention|flash", re.IGNORECASE)
_NARROWEST_FIRST = ("int4", "fp8", "int8", "bf16", "fp16", "fp32")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU.

    Attributes:
        name: As the driver says it.
        compute_capability: Such as `9.0`.
        memory_bytes: In all.
        driver: The newest CUDA that the driver knows, such as `13.0`.
    """

    name: str
    compute_capability: str
    memory_bytes: int
    driver: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """An optimisation profile: the batch sizes that an engine accepts, and the one that it is tuned for.

    Attributes:
        min: Smallest batch.
        opt: The batch that kernels are chosen for.
        max: Largest batch; memory is taken for it.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise OptionError(
                "a profile's batch sizes are not in order", got=str(self), expected="1 <= min <= opt <= max"
            )

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    def __contains__(self, batch: int) -> bool:
        return self.min <= batch <= self.max

    @classmethod
    def parse(cls, text: str) -> Profile:
        """Reads `min:opt:max`, or one number where all three are the same.

        Raises:
            OptionError: Another form, or sizes that are not in order.
        """
        if not re.fullmatch(r"\d+(:\d+:\d+)?", text):
            raise OptionError("a profile has another form", got=text, expected="MIN:OPT:MAX, such as 1:8:64, or BATCH")
        numbers = [int(number) for number in text.split(":")]
        low, tuned, high = numbers if len(numbers) == 3 else numbers * 3
        return cls(min=low, opt=tuned, max=high)


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """How to build an engine.

    Attributes:
        tensorrt: `auto` takes TensorRT where it is installed, else TensorRT-RTX.
        precision: `auto` takes the graph's. Where the graph says the types (TensorRT 10, 11, RTX) another one is an
            error; TensorRT 8 permits fp16 by a flag, with LayerNorm and softmax held in fp32.
        profiles: Batch sizes, one profile or several.
        hold_norms: TensorRT 8 makes fp16 of a graph in fp32: whether LayerNorm and softmax stay in fp32. Without, the
            build is many times quicker, and so may be the engine; its errors are several times larger.
        tf32: Permit products of fp32 numbers with 10 bits of mantissa; off, fp32 means fp32.
        workspace_mib: Most scratch memory for a layer, in MiB; by default all of the GPU's.
        optimization_level: 0 (quick) to 5 (slow, thorough); by default TensorRT's own.
        timing_cache: Folder of timing caches, a file for each version and GPU; `auto` is vitrify's cache folder, `none`
            keeps nothing.
        version_compatible: The engine also runs on later minor versions. Such a plan carries host code.
        hardware_compatible: GPUs other than this one that the engine shall run on.
        compute_capabilities: TensorRT-RTX: GPUs to compile for, such as `8.9`; by default this machine's.
        tactic_sources: Libraries that kernels may come from, such as `CUBLAS_LT`; by default TensorRT's own choice.
    """

    tensorrt: FlavourChoice = "auto"
    precision: EnginePrecision = "auto"
    profiles: tuple[Profile, ...] = (Profile(min=1, opt=8, max=64),)
    hold_norms: bool = True
    tf32: bool = False
    workspace_mib: int | None = None
    optimization_level: int | None = None
    timing_cache: str = "auto"
    version_compatible: bool = False
    hardware_compatible: HardwareCompatibility = "none"
    compute_capabilities: tuple[str, ...] = ()
    tactic_sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.profiles:
            raise OptionError("an engine needs a profile", got="none", expected="at least one, such as 1:8:64")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise OptionError("the workspace is not positive", got=self.workspace_mib, expected="1 MiB or more")
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise OptionError("no such optimisation level", got=self.optimization_level, expected="0 to 5")
        for capability in self.compute_capabilities:
            if not re.fullmatch(r"\d+\.\d", capability):
                raise OptionError("a compute capability has another form", got=capability, expected="such as 8.9")

    @property
    def max_batch(self) -> int:
        """The largest batch of any profile."""
        return max(profile.max for profile in self.profiles)


@dataclass(frozen=True, kw_only=True)
class AuditedLayer:
    """One layer of an engine.

    Attributes:
        name: TensorRT's.
        kind: TensorRT's layer type, such as `gemm` or `kgen`.
        reads: Types of the numbers that it reads, weights included, without integers that are shapes.
        writes: Types of the numbers that it gives.
        matrix: Whether it multiplies matrices: where a ViT's time goes.
        onnx: The ONNX nodes that went into it, where TensorRT tells.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    matrix: bool
    onnx: tuple[str, ...] = ()

    @property
    def attention(self) -> bool:
        """Whether it is a whole attention block, from the scores to the weighted values."""
        if ATTENTION.search(self.name):
            return True
        products = sum("MatMul" in node or "Gemm" in node for node in self.onnx)
        return products >= 2 and any("Softmax" in node for node in self.onnx)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a build gave.

    Attributes:
        source: `inspector` (of the loaded engine), `build log` (no GPU here), or `none` where neither told.
        asked: The precision that was asked for.
        layers: Every layer.
        attention_blocks: Attention blocks of the network.
        fused_attention: Of those, how many became one layer.
        opaque: Layers that TensorRT does not look into; an older release shows a whole transformer as one.
        shortfalls: What was asked for and not given, a line each.
    """

    source: Literal["inspector", "build log", "none"]
    asked: Precision
    layers: tuple[AuditedLayer, ...]
    attention_blocks: int
    fused_attention: int
    opaque: int
    shortfalls: tuple[str, ...]

    @property
    def matrix_types(self) -> dict[str, int]:
        """How many matrix layers multiply in each type: the narrowest that they read; scales and biases are wider."""
        counts = collections.Counter(
            min(layer.reads, key=_NARROWEST_FIRST.index) for layer in self.layers if layer.matrix
        )
        return dict(counts)


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
    return Path(f"{os.fspath(plan)}.json")


def rebuild_command(plan: str | os.PathLike[str]) -> str:
    """What a user types to make an engine again."""
    return f"vitrify build {for_shell(plan)} --rebuild"


def remedy_for(path: str | os.PathLike[str]) -> str:
    """What a user does when an artifact turns out to be damaged, or another model's."""
    return rebuild_command(path) if Path(path).suffix in ENGINE_SUFFIXES else "export the artifact again"


def read_manifest(plan: str | os.PathLike[str]) -> Manifest:
    """Reads the manifest beside a plan, strictly; `Artifact.open(plan).manifest` is how others ask for it.

    Raises:
        EngineError: There is none, or it cannot be used.
    """
    path = manifest_path(plan)
    again = f"vitrify build MODEL.onnx -o {for_shell(plan)}"
    if not path.exists():
        raise EngineError(
            f"{plan} has no manifest, and a plan can carry code",
            expected=f"{path} beside it",
            hint=f"{again}; from Python, open_runtime(plan, trusted=True) runs one that you made yourself",
        )
    try:
        if not path.is_file():
            raise ValueError("no regular file")
        with path.open("rb") as file:
            text = file.read(_LIMIT_BYTES + 1)
        if len(text) > _LIMIT_BYTES:
            raise ValueError(f"more than {_LIMIT_BYTES:,} bytes")
        data: Any = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"the manifest {path} cannot be read", got=error, hint=again) from error
    version = data.get("version") if isinstance(data, dict) else None
    if version != MANIFEST_VERSION or isinstance(version, bool):
        raise EngineError(
            f"the manifest {path} has another version", got=version, expected=MANIFEST_VERSION, hint=again
        )
    try:
        return decode(Manifest, data, root="manifest")
    except (SpecError, OptionError) as error:
        raise EngineError(
            f"{path} cannot be used: {error.what}", got=error.got, expected=error.expected, hint=again
        ) from error


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
