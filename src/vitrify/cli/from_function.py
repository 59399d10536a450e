"""A command is one of `vitrify.api`'s functions with the terminal around it: options, defaults and help are its own."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_type_hints

from cyclopts import Parameter

from vitrify.api import parameter_types
from vitrify.cli.options import JsonFlag
from vitrify.console import TerminalProgress, print_error, print_json
from vitrify.errors import VitrifyError
from vitrify.signatures import described_parameters

R = TypeVar("R")
Run: TypeAlias = functools.partial[R]
"""Calls the function with what was parsed."""

_WORDS: dict[str, Any] = {
    "StrPath": Path,
    "Images": tuple[str, ...],
    "Labels": Path,
    "Words": tuple[str, ...],
    "Numbers": tuple[int, ...],
    "Artifacts": tuple[Path, ...],
    "ShowProgress": bool,
    "Any": Any,
}
"""What a command line has for the types of `vitrify.api`."""

OUTPUT = Parameter(name=["--output", "-o"])
HIDDEN_DEFAULT = Parameter(show_default=False)


def command_of(function: Callable[..., R], **options: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Makes a command of a Python function.

    What is decorated takes a `Run`, and by keyword the options that the command line has besides. Its docstring is the
    command's; the descriptions of the function's parameters come from the function.

    Args:
        function: Takes what was parsed, and `progress`.
        options: For a parameter, how it is parsed, where its type does not tell: a `Parameter`, or another type.
    """

    def decorate(body: Callable[..., int]) -> Callable[..., int]:
        own = list(inspect.signature(body).parameters.values())[1:]
        kinds = parameter_types(function, _WORDS)
        theirs = [
            parameter.replace(annotation=_parsed(kinds[name], parameter.default, options.get(name)))
            for name, parameter in inspect.signature(function).parameters.items()
            if name != "progress"
        ]
        names = {parameter.name for parameter in own}
        holder = types.SimpleNamespace(__annotations__={p.name: p.annotation for p in own})
        hints = get_type_hints(
            holder, {"Path": Path, "JsonFlag": JsonFlag, "Literal": Literal}, {}, include_extras=True
        )
        mine = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]

        @functools.wraps(body)
        def command(*arguments: Any, **parsed: Any) -> int:
            here = {name: parsed.pop(name) for name in names & parsed.keys()}
            return body(functools.partial(function, *arguments, **parsed, progress=TerminalProgress()), **here)

        del vars(command)["__wrapped__"]
        shown = inspect.Signature([*theirs, *mine])
        vars(command).update(__signature__=shown)
        command.__annotations__ = {name: parameter.annotation for name, parameter in shown.parameters.items()}
        command.__doc__ = _described(body, function)
        return command

    return decorate


def finish(
    run: Callable[[], R], show: Callable[[R], None], *, json: bool, record: Callable[[R], object] = lambda made: made
) -> int:
    """Runs, and shows what it gave, or what was measured before a gate did not hold.

    Args:
        run: The work.
        show: For people.
        json: One document on stdout instead, whatever happens.
        record: What of the result is that document.
    """
    error: VitrifyError | None = None
    result: Any
    try:
        result = run()
    except VitrifyError as caught:
        if caught.result is None:
            raise
        error, result = caught, caught.result
    if json:
        print_json(record(result))
    else:
        show(result)
    if error is None:
        return 0
    print_error(error)
    return error.exit_code


def _parsed(kind: Any, default: object, extra: Any) -> Any:
    if extra is not None and not isinstance(extra, Parameter):
        return extra
    given = [extra] if extra is not None else []
    if default is False:
        given.append(Parameter(negative=""))
    return functools.reduce(lambda made, parameter: Annotated[made, parameter], given, kind)


def _described(body: Callable[..., Any], function: Callable[..., Any]) -> str:
    head, _, mine = inspect.cleandoc(body.__doc__ or "").partition("\n\nArgs:\n")
    theirs = described_parameters(function)
    theirs.pop("progress")
    text = "\n".join(f"    {name}: {words}" for name, words in theirs.items())
    return f"{head}\n\nArgs:\n{text}\n{mine}"
