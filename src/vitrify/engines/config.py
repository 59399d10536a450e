"""How an engine is to be built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vitrify.engines.releases import FlavourChoice, Release
from vitrify.errors import OptionError
from vitrify.spec import Precision

PrecisionChoice = Literal["auto", "fp32", "fp16", "bf16", "int8", "fp8"]
HardwareCompatibility = Literal["none", "ampere+", "same-compute-capability"]


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
    precision: PrecisionChoice = "auto"
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


def resolve_precision(choice: PrecisionChoice, graph: Precision, *, release: Release, name: str) -> Precision:
    """What an engine's arithmetic will be.

    Args:
        choice: What was asked for.
        graph: What the graph's own types are.
        release: What it can do.
        name: Its name and version, for the message.

    Raises:
        OptionError: The graph says otherwise, or the release cannot make it by flags.
    """
    if choice in ("auto", graph):
        return graph
    if choice not in release.precisions:
        hint = f"it computes in {', '.join(release.precisions)}"
    elif choice == "fp32":
        hint = "vitrify export CHECKPOINT -o MODEL.onnx, and build that"
    else:
        hint = f"vitrify quantize MODEL.onnx --to {choice} -o MODEL.{choice}.onnx, and build that"
    if release.strongly_typed:
        raise OptionError(
            f"{name} takes the types from the graph, and this graph is {graph}",
            got=f"precision {choice}",
            expected=f"auto or {graph}",
            hint=hint,
        )
    if graph == "fp32" and choice == "fp16":
        return "fp16"
    raise OptionError(
        f"{name} cannot turn a graph in {graph} into {choice}",
        got=f"precision {choice}",
        expected="auto, or fp16 for a graph in fp32",
        hint=hint,
    )
