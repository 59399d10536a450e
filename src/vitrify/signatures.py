"""What takes the fields of a config class as keywords: shown with its fields, defaults and descriptions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])


def with_options(config: type, *, without: tuple[str, ...] = ()) -> Callable[[T], T]:
    """Gives a function or a class that takes `**options` the signature and the description of their config class.

    Its docstring says `**options: OPTIONS` where the class's own descriptions, its Attributes, are to stand.

    Args:
        config: A dataclass whose annotations are evaluated.
        without: Fields that are not offered.
    """

    def decorate(target: T) -> T:
        holder: Any = vars(target)["__init__"] if isinstance(target, type) else target
        shown = inspect.signature(holder)
        fields = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(config).parameters.items()
            if name not in without
        ]
        for number, field in enumerate(fields):
            if not isinstance(field.default, (str, int, float, type(None))):  # a factory's stand-in
                fields[number] = field.replace(default={})
        first = [p for p in shown.parameters.values() if p.name != "progress" and p.kind is not p.VAR_KEYWORD]
        last = [shown.parameters["progress"]] if "progress" in shown.parameters else []
        vars(holder).update(__signature__=shown.replace(parameters=[*first, *fields, *last]))
        described = described_parameters(config, "Attributes")
        text = "".join(f"    {field.name}: {described[field.name]}\n" for field in fields)
        target.__doc__ = re.sub(r"    \*\*\w+: OPTIONS\n", lambda _: text, inspect.cleandoc(target.__doc__ or ""))
        return target

    return decorate


def described_parameters(thing: Any, section: str = "Args") -> dict[str, str]:
    """What a Google docstring says of each parameter or attribute."""
    text = inspect.cleandoc(thing.__doc__ or "").partition(f"\n{section}:\n")[2]
    text = re.split(r"^(?=\S)", text, maxsplit=1, flags=re.MULTILINE)[0]
    items = re.split(r"^    (?=\w+: )", text, flags=re.MULTILINE)[1:]
    return {name: words.rstrip() for name, _, words in (item.partition(": ") for item in items)}
