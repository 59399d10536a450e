"""A search for a lower precision on the model that reads digits, as several tests run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.precision.digits import Digits
from vitrify.precision import Recipe
from vitrify.spec import Attempt, PrecisionSearch
from vitrify.timing import Turns
from vitrify.workflows.quantize import Limits, QuantizeConfig, QuantizeResult, quantized_from_onnx


def config(precision: Any = "int8", *, limits: Limits | None = None, **options: Any) -> QuantizeConfig:
    recipe = {
        key: options.pop(key)
        for key in ("smooth", "calibrator", "around", "split_qkv", "narrow", "keep")
        if key in options
    }
    return QuantizeConfig(
        recipe=Recipe(precision=precision, **recipe), limits=limits or Limits(min_speedup=None), **options
    )


def quantize(trained: Digits, source: Path, output: Path, chosen: QuantizeConfig, **more: Any) -> QuantizeResult:
    return quantized_from_onnx(
        source,
        output,
        calibration=trained.calibration,
        config=chosen,
        images=trained.held_out,
        labels=trained.labels,
        **more,
    )


def candidates(result: QuantizeResult) -> list[Attempt]:
    """The attempts without those that are the source itself."""
    return [attempt for attempt in result.search.attempts if attempt.recipe != "source"]


def a_search(*attempts: Attempt, images: int = 243, **changes: Any) -> PrecisionSearch:
    """A record with these attempts."""
    given: dict[str, Any] = {"max_drop": 0.005, "min_agreement": None, "min_speedup": 1.05} | changes
    return PrecisionSearch(
        source_sha256="", target="int8", runtime="onnxruntime", machine="a machine", batch=1, images=images,
        calibration_images=96, attempts=attempts, **given,
    )  # fmt: skip


class Clock:
    """Stands in for `take_turns`: the source takes 4 in fp32 and 2 in bf16, and a candidate what it is told, so often
    faster than the fastest of those that it meets, round by round.
    """

    def __init__(self, *speedups: float) -> None:
        self.speedups = speedups
        self.options: dict[str, Any] = {}
        self.raced: list[list[str]] = []

    def __call__(self, contenders: dict[str, Any], **options: Any) -> Turns:
        self.options = options
        self.raced.append(list(contenders))
        times = {name: (4.0 if name.endswith("fp32") else 2.0,) for name in contenders if name != "candidate"}
        fastest = min(times.values())[0]
        seconds = {name: value * len(self.speedups) for name, value in times.items()}
        if "candidate" in contenders:
            seconds["candidate"] = tuple(fastest / speedup for speedup in self.speedups)
        return Turns(seconds=seconds)
