from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrify.classifier.options import ClassifierOptions
from vitrify.cli.from_function import Run, command_of
from vitrify.cli.options import JsonFlag
from vitrify.signatures import with_options

if TYPE_CHECKING:
    from vitrify.api import StrPath
    from vitrify.classifier import Failure, Prediction

_IMAGES = Annotated[list[str], Parameter(allow_leading_hyphen=True)]  # for -, which is standard input
_TOP_K = Annotated[int, Parameter(name=["--top-k", "-k"])]


@with_options(ClassifierOptions, without=("like",))
def _predictions(artifact: StrPath, images: Any, /, *, progress: Any, **options: Any) -> Iterator[Prediction | Failure]:
    """Opens the artifact and answers each image.

    Args:
        artifact: A model that carries its spec.
        images: Files, folders, globs, or - for standard input: an encoded image, or one path a line.
        **options: OPTIONS
        progress: Told of each image.
    """
    from vitrify.classifier import Classifier, expand_sources
    from vitrify.errors import OptionError

    for name in images:
        if name.startswith("-") and name != "-" and not Path(name).exists():
            raise OptionError(f"unknown option {name}", expected="an option of vitrify predict --help, or an image")
    sources = expand_sources(images, stdin=sys.stdin.buffer)
    with Classifier(artifact, **options) as classifier:
        yield from progress.track(classifier.stream(sources), label="predicting", total=len(sources))


@command_of(_predictions, images=_IMAGES, top_k=_TOP_K)
def predict(
    run: Run[Iterator[Prediction | Failure]],
    *,
    format: Literal["table", "jsonl", "csv"] = "table",
    json: JsonFlag = False,
) -> int:
    """Classify images.

    An image that cannot be read is reported in its place; the others are still predicted, and the exit code is 2.

    Example: `vitrify predict flowers.onnx photos/ --format csv > answers.csv`

    Args:
        format: table for people, jsonl or csv for programs.
        json: The same as --format jsonl.
    """
    from vitrify.classifier import Failure
    from vitrify.cli.answers import AnswerWriter

    failed = 0
    answers = run()
    writer = AnswerWriter("jsonl" if json else format)
    for answer in answers:
        failed += isinstance(answer, Failure)
        writer.write(answer)
    writer.finish()
    return 2 if failed else 0
