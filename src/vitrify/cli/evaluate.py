from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vitrify.cli.options import JsonFlag, require_picture
from vitrify.cli.tables import evaluation_tables
from vitrify.console import TerminalProgress, out, print_json


def evaluate(
    artifact: Path,
    data: Path,
    /,
    *,
    reference: Path | None = None,
    runtime: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    batch_size: int = 8,
    threads: int | None = None,
    self_test: Literal["auto", "always", "never"] = "auto",
    confusion: Path | None = None,
    min_top1: Annotated[float | None, Parameter(show_default=False)] = None,
    json: JsonFlag = False,
) -> int:
    """Measure accuracy on a labelled folder, with a confidence interval and the answers that flipped.

    Exits with 1 when --min-top1 is not reached and with 2 when images could not be read.

    Example: `vitrify eval flowers.onnx flowers/val --reference runs/flowers/best.safetensors --confusion confusion.png`

    Args:
        artifact: What to judge.
        data: DATA/CLASS/*.jpg; where there are DATA/train and DATA/val, DATA/val is taken.
        reference: Another artifact or a checkpoint; images that it answers differently are listed.
        runtime: auto, or a runtime's name.
        precision: auto takes bf16 where the artifact's record says that it passed; fp32 runs int8 dequantised.
        batch_size: Images in one inference.
        threads: Threads of the runtime and of preprocessing.
        self_test: When golden vectors run: auto once for this file, runtime and machine.
        confusion: Write the confusion matrix as a picture, PNG.
        min_top1: Least accuracy, 0 to 1; below it the exit code is 1.
        json: Print the result as JSON on stdout.
    """
    from vitrify.classifier import Classifier
    from vitrify.errors import GateError, OptionError
    from vitrify.verification import confusion_picture, evaluate_folder

    if min_top1 is not None and not 0 <= min_top1 <= 1:
        raise OptionError("--min-top1 is out of range", got=min_top1, expected="0 to 1, such as 0.97")
    require_picture(confusion, "the confusion matrix")
    with Classifier(
        artifact, runtime=runtime, precision=precision, batch_size=batch_size, threads=threads, self_test=self_test
    ) as classifier:
        result = evaluate_folder(classifier, data, reference=reference, progress=TerminalProgress())
    if confusion:
        confusion_picture(result, confusion)
    if json:
        print_json(result)
    else:
        for table in evaluation_tables(result):
            out.print(table)
    if min_top1 is not None and result.top1 < min_top1:
        raise GateError(
            "the accuracy is below --min-top1", got=f"{result.top1:.2%}", expected=f"{min_top1:.2%} or more"
        )
    return 2 if result.failures else 0
