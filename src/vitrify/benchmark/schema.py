"""The JSON Schema of a report, made from the classes that it is written from."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from typing import Any

from vitrify.benchmark.report import BENCH_FORMAT, BenchReport

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def report_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12, of what `write_report` writes; fields are described as in the classes' docstrings."""
    found: dict[str, Any] = {}
    top = _of(BenchReport, found)
    definitions = dict(sorted(found.items()))
    definitions[BenchReport.__name__]["properties"]["format"]["const"] = BENCH_FORMAT
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What vitrify bench --output writes",
        **top,
        "$defs": definitions,
    }


def _of(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type; classes go into `found` and are referred to."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if dataclasses.is_dataclass(kind):
        name = getattr(kind, "__name__", "")
        if name not in found:
            found[name] = {}  # before its fields, which may be of the same class
            found[name] = _object(kind, found)
        return {"$ref": f"#/$defs/{name}"}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        if all(typing.get_origin(one) is typing.Literal for one in arguments):
            return {"enum": [value for one in arguments for value in typing.get_args(one)]}
        return {"anyOf": [_of(one, found) for one in arguments]}
    return _container(origin, arguments, found)


def _container(origin: Any, arguments: tuple[Any, ...], found: dict[str, Any]) -> dict[str, Any]:
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], found)}
    if origin is not tuple:
        raise TypeError(f"a report has no {origin}")
    if arguments[-1] is ...:
        return {"type": "array", "items": _of(arguments[0], found)}
    each = [_of(one, found) for one in arguments]
    return {"type": "array", "prefixItems": each, "items": False, "minItems": len(each)}


def _object(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    hints, said = typing.get_type_hints(kind), _attributes(kind)
    properties = {
        field.name: _of(hints[field.name], found) | ({"description": said[field.name]} if field.name in said else {})
        for field in dataclasses.fields(kind)
    }
    missing = dataclasses.MISSING
    return {
        "type": "object",
        "description": (inspect.getdoc(kind) or "").partition("\n")[0],
        "properties": properties,
        "required": [f.name for f in dataclasses.fields(kind) if f.default is missing and f.default_factory is missing],
        "additionalProperties": False,
    }


def _attributes(kind: Any) -> dict[str, str]:
    """What the docstring's `Attributes` section says of each."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n      +.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}
