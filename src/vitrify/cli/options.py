"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from cyclopts import Parameter

JsonFlag: TypeAlias = Annotated[bool, Parameter(name="--json", negative="")]
Output: TypeAlias = Annotated[str, Parameter(name=["--output", "-o"])]
