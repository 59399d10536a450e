"""Options that several commands share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from vitrify.errors import MissingExtraError, OptionError

JsonFlag: TypeAlias = Annotated[bool, Parameter(name="--json", negative="")]
Output: TypeAlias = Annotated[str, Parameter(name=["--output", "-o"])]


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
