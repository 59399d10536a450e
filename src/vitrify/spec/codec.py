"""Frozen dataclasses to JSON values and back, strictly: unknown, missing and mistyped fields are errors with a path."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vitrify.errors import SpecError

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Turns a dataclass into dicts, lists and JSON scalars. Field order is kept, so the text is reproducible."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    return os.fspath(value) if isinstance(value, os.PathLike) else value


class Result:
    """A dataclass that somebody is given as an answer."""

    def to_dict(self) -> dict[str, Any]:
        """Dicts, lists and JSON scalars, as `--json` prints them."""
        encoded: dict[str, Any] = encode(self)
        return encoded


def decode(kind: type[T], data: Any, *, root: str = "spec") -> T:
    """Makes a `kind` from JSON values.

    Args:
        kind: A dataclass whose fields are scalars, literals, tuples, dicts, unions of those, or such dataclasses.
        data: What `json.loads` gave.
        root: What the data is, for messages: the first word of every path.

    Raises:
        SpecError: A missing or unknown field or a value of another type, with the path of the field.
    """
    result: T = _decode(kind, data, root)
    return result


def _decode(kind: Any, data: Any, path: str) -> Any:  # noqa: PLR0911 - one return a kind
    origin = get_origin(kind)
    if kind is Any:
        return data
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, path)
    if origin in (Union, types.UnionType):
        return _decode_union(kind, data, path)
    if origin is Literal:
        if data in get_args(kind) and type(data) in {type(choice) for choice in get_args(kind)}:
            return data
        raise _mismatch(path, data, " or ".join(map(repr, get_args(kind))))
    if origin is tuple:
        return _decode_tuple(kind, data, path)
    if origin is dict:
        if not isinstance(data, dict):
            raise _mismatch(path, data, "an object")
        item_kind = get_args(kind)[1]
        return {key: _decode(item_kind, item, f"{path}.{key}") for key, item in data.items()}
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if type(data) is not kind or (kind is float and not math.isfinite(data)):
        raise _mismatch(path, data, "null" if kind is types.NoneType else f"a finite {kind.__name__}")
    return data


def _decode_dataclass(kind: Any, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise _mismatch(path, data, "an object")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(data.keys() - fields)
    missing = sorted(
        name
        for name, field in fields.items()
        if name not in data and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    if unknown or missing:
        raise SpecError(
            f"the {_called(path)} does not have the right fields at {path}",
            got=", ".join([f"unknown {name}" for name in unknown] + [f"no {name}" for name in missing]),
            expected=", ".join(fields),
            hint="make the artifact again with this vitrify",
        )
    hints = _hints(kind)
    return kind(**{name: _decode(hints[name], item, f"{path}.{name}") for name, item in data.items()})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode_union(kind: Any, data: Any, path: str) -> Any:
    for choice in get_args(kind):
        # A JSON integer is no float here: int | float must keep 1 apart from 1.0.
        if choice is float and not isinstance(data, float):
            continue
        try:
            return _decode(choice, data, path)
        except SpecError:
            # Only a scalar says nothing of why; a dataclass that was meant tells which of its fields is wrong.
            if dataclasses.is_dataclass(choice) and isinstance(data, dict):
                raise
    raise _mismatch(path, data, str(kind).replace("types.NoneType", "null"))


def _decode_tuple(kind: Any, data: Any, path: str) -> tuple[Any, ...]:
    kinds = get_args(kind)
    if not isinstance(data, list):
        raise _mismatch(path, data, "a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(data)
    if len(kinds) != len(data):
        raise _mismatch(path, data, f"{len(kinds)} items")
    return tuple(
        _decode(item_kind, item, f"{path}[{i}]") for i, (item_kind, item) in enumerate(zip(kinds, data, strict=True))
    )


def _mismatch(path: str, data: Any, expected: str) -> SpecError:
    text = repr(data)
    return SpecError(
        f"the {_called(path)} has a wrong value at {path}",
        got=text if len(text) < 80 else text[:77] + "...",
        expected=expected,
    )


def _called(path: str) -> str:
    root = path.split(".", maxsplit=1)[0].partition("[")[0]
    return "model spec" if root == "spec" else root
