"""Options that several commands share."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from vitrify.errors import MissingExtraError, OptionError

JsonFlag: TypeAlias = Annotated[bool, Parameter(name="--json", negative="")]
Output: TypeAlias = Annotated[str, Parameter(name=["--output", "-o"])]


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds_of(text: str | None) -> float | None:
    """A duration as a user writes it, `300`, `90s`, `5m` or `1.5h`, in seconds; None where none was given.

    Raises:
        OptionError: Something else.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None:
        raise OptionError("no duration", got=text, expected="seconds, or a number with s, m or h, such as 5m")
    return float(found[1]) * _SECONDS[found[2]]


def require_picture(path: Path | None, what: str) -> None:
    """Refuses a picture that could not be drawn, before the work that it would show.

    Args:
        path: Where it shall be written; None where none was asked for.
        what: What it shows, for the message.

    Raises:
        OptionError: Another suffix than `.png`.
        MissingExtraError: matplotlib is not installed.
    """
    if path is None:
        return
    if path.suffix.lower() != ".png":
        raise OptionError(f"{what} is a PNG", got=path, expected="a name ending in .png")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("drawing needs matplotlib", extra="train", package="matplotlib")
