"""What a search for a lower precision is refused for before anything is measured, and what its reader should know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitrify.errors import ArtifactError, OptionError
from vitrify.files import require_writable
from vitrify.pixels import ImageSource
from vitrify.precision import FALLBACKS, Recipe, Target
from vitrify.runtimes import RUNTIMES, pick_runtime
from vitrify.spec import MIN_IMAGES
from vitrify.workflows.crops import identity


def require_usable(
    source: Path,
    output: Path,
    *,
    calibration: Sequence[ImageSource],
    images: Sequence[ImageSource],
    labels: Sequence[int] | None,
) -> None:
    """Refuses files that cannot be read or written, and too few images.

    Args:
        source: What is to be rewritten.
        output: Where to.
        calibration: At least `MIN_IMAGES`.
        images: What accuracy is judged on, at least as many; none, where that is `calibration`.
        labels: One for each of `images`.

    Raises:
        OptionError, ArtifactError, StorageError: Names what is wrong.
    """
    if source.suffix != ".onnx" or output.suffix != ".onnx":
        raise OptionError(
            f"cannot quantize {source} to {output}", expected="two .onnx files", hint="vitrify export makes one"
        )
    if not source.is_file():
        raise ArtifactError(f"no such file: {source}", hint="check the path")
    if output.exists() and output.samefile(source):
        raise OptionError(f"{output} would replace its own source", hint="name another file")
    if output.is_dir():
        raise OptionError(f"{output} is a directory", expected="a file name", hint=f"name a file in {output}/")
    require_writable(output)
    if len(calibration) < MIN_IMAGES:
        raise OptionError(
            "too few calibration images",
            got=len(calibration),
            expected=f"at least {MIN_IMAGES}",
            hint="some hundred that look like those to come, such as a part of the training images",
        )
    if labels is not None and (len(labels) != len(images) or not images):
        raise OptionError("images and labels differ in number", got=f"{len(images)} and {len(labels)}")
    if images and len(images) < MIN_IMAGES:
        raise OptionError(
            "too few images to judge accuracy on",
            got=len(images),
            expected=f"at least {MIN_IMAGES}",
            hint="some hundred; the report says how many would tell",
        )


def targets_here(source: Path, recipe: Recipe, *, fallback: bool, runtime: str) -> tuple[tuple[Target, ...], list[str]]:
    """The precisions that can be tried with what is installed, and notes on those that cannot.

    ONNX Runtime gives the source's answers and measures ranges. bf16 needs OpenVINO: no other runtime has it on a CPU.

    Args:
        source: What is to be rewritten.
        recipe: What to begin with.
        fallback: Whether the next higher precisions follow.
        runtime: What is to judge, or `auto`.

    Raises:
        MissingExtraError: What was asked for cannot be tried: names the package.
        OptionError: No such runtime.
    """
    rows = {row.name: row for row in RUNTIMES}
    rows["onnxruntime"].load()
    pick_runtime(source, runtime).load()
    targets = FALLBACKS[recipe.precision] if fallback else (recipe.precision,)
    if rows["openvino"].installed:
        return targets, []
    if "bf16" in (recipe.precision, recipe.around):
        rows["openvino"].load()
    left = tuple(target for target in targets if target != "bf16")
    note = "bf16 was not tried: OpenVINO, the one runtime that has it on a CPU, is not installed"
    return left, [note] if left != targets else []


def judging_notes(calibration: Sequence[ImageSource], images: Sequence[ImageSource]) -> list[str]:
    """What weakens the verdict on accuracy: images that were calibrated on.

    Args:
        calibration: What ranges were measured on.
        images: What accuracy was judged on; none, where that is `calibration`.
    """
    notes = []
    seen = {identity(image) for image in calibration}
    shared = sum(identity(image) in seen for image in images)
    if not images:
        notes.append("accuracy was judged on the calibration images themselves, which flatters: give others")
    elif shared:
        notes.append(f"{shared} of the {len(images)} judged images were calibrated on too, which flatters")
    return notes
