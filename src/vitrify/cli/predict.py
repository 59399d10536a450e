from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vitrify.cli.options import JsonFlag
from vitrify.console import TerminalProgress


def predict(
    artifact: Path,
    images: Annotated[list[str], Parameter(allow_leading_hyphen=True)],  # for -, which is standard input
    /,
    *,
    format: Literal["table", "jsonl", "csv"] = "table",
    top_k: Annotated[int, Parameter(name=["--top-k", "-k"])] = 5,
    runtime: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp8"] = "auto",
    batch_size: int = 8,
    pixels: Literal["auto", "cpu", "gpu"] = "auto",
    threads: int | None = None,
    self_test: Literal["auto", "always", "never"] = "auto",
    json: JsonFlag = False,
) -> int:
    """Classify images.

    An image that cannot be read is reported in its place; the others are still predicted, and the exit code is 2.

    Example: `vitrify predict flowers.onnx photos/ --format csv > answers.csv`

    Args:
        artifact: A model that carries its spec.
        images: Files, folders, globs, or - for standard input: an encoded image, or one path a line.
        format: table for people, jsonl or csv for programs.
        top_k: Labels for each image.
        runtime: auto, or a runtime's name.
        precision: auto takes bf16 where the artifact's record says that it passed; fp32 runs int8 dequantised.
        batch_size: Images in one inference.
        pixels: Where images are resized: auto takes the engine's GPU. The tensors are the same.
        threads: Threads of the runtime and of preprocessing, which share a large JPEG where there are fewer images.
        self_test: When golden vectors run: auto once for this file, runtime and machine.
        json: The same as --format jsonl.
    """
    from vitrify.classifier import Classifier, Failure, expand_sources
    from vitrify.cli.answers import AnswerWriter
    from vitrify.errors import OptionError

    for name in images:
        if name.startswith("-") and name != "-" and not Path(name).exists():
            raise OptionError(f"unknown option {name}", expected="an option of vitrify predict --help, or an image")
    sources = expand_sources(images, stdin=sys.stdin.buffer)
    failed = 0
    with Classifier(
        artifact,
        runtime=runtime,
        precision=precision,
        batch_size=batch_size,
        pixels=pixels,
        threads=threads,
        self_test=self_test,
        top_k=top_k,
    ) as classifier:
        writer = AnswerWriter("jsonl" if json else format)
        stream = classifier.stream(sources)
        for answer in TerminalProgress().track(stream, label="predicting", total=len(sources)):
            failed += isinstance(answer, Failure)
            writer.write(answer)
        writer.finish()
    return 2 if failed else 0
