"""Writes cli.md, api.md and bench.schema.json of docs/reference from the code; with --check, fails where stale."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import sys
from pathlib import Path

import vitrify
from vitrify.benchmark import report_schema
from vitrify.cli.app import make_app

DOCS = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Made by scripts/make_reference.py from the docstrings. After a change: scripts/check --fix -->\n\n"


TYPES = """`StrPath` is a path or a string, `Images` an image or any iterable of images or of files, folders and globs,
`Words`, `Numbers` and `Artifacts` one or several, `Labels` a file of names or the names, `ShowProgress` True or an
object as in `vitrify.progress`.
"""


def cli_page() -> str:
    text = make_app(resolved=True).generate_docs(heading_level=1, usage_name="vitrify")
    # A version or a width of this machine must not make the page stale.
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return NOTE + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def api_page() -> str:
    parts = [NOTE + "# Python reference\n\nWhat `import vitrify` offers.\n\n" + TYPES]
    for name in vitrify.__all__:
        if name == "__version__":
            continue
        thing = getattr(vitrify, name)
        parts.append(f"## `vitrify.{name}`\n\n{signature(name, thing)}\n\n{docstring(thing)}\n")
        for member_name, member in sorted(vars(thing).items()) if inspect.isclass(thing) else ():
            if member_name.startswith("_") and member_name != "__call__":
                continue
            target = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if inspect.isfunction(target) and target.__doc__:
                shown = f"`{member_name}`" if isinstance(member, property) else signature(member_name, target)
                parts.append(f"### `{name}.{member_name}`\n\n{shown}\n\n{docstring(target)}\n")
    errors = importlib.import_module("vitrify.errors")
    parts.append(f"## Errors\n\n```text\n{inspect.cleandoc(errors.__doc__ or '')}\n```\n")
    return "\n".join(parts)


def bench_schema() -> str:
    return json.dumps(report_schema(), ensure_ascii=False, indent=1) + "\n"


def signature(name: str, thing: object) -> str:
    if dataclasses.is_dataclass(thing):
        fields = ", ".join(f"{field.name}: {field.type}" for field in dataclasses.fields(thing))
        return f"```python\n{name}(*, {fields})\n```"
    if callable(thing):
        return f"```python\n{name}{unquoted(inspect.signature(thing))}\n```"
    return ""


def unquoted(shown: inspect.Signature) -> str:
    # Postponed annotations are strings; a reader wants the types.
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(shown))


def docstring(thing: object) -> str:
    text = inspect.getdoc(thing) or ""
    # Google's sections become bold headings and lists.
    text = re.sub(r"^(Args|Returns|Raises|Yields|Attributes|Example):$", r"**\1**\n", text, flags=re.MULTILINE)
    text = re.sub(r"^    (\w[\w, ]*): ", r"- `\1`: ", text, flags=re.MULTILINE)
    text = re.sub(r"^        (?=\w)", "  ", text, flags=re.MULTILINE)
    return re.sub(r"(\*\*(?:Returns|Yields)\*\*\n\n)    ", r"\1", text)


def main() -> int:
    stale = []
    for name, text in {"cli.md": cli_page(), "api.md": api_page(), "bench.schema.json": bench_schema()}.items():
        path = DOCS / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    if stale and "--check" in sys.argv:
        print(f"stale: {', '.join(stale)}\nhint: run scripts/check --fix", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
