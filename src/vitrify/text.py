"""What is safe to print: names and labels come from files, and each place that shows them has signs of its own.

One function for each place. None raises, and ordinary text, of whatever language, comes out as it went in.
"""

from __future__ import annotations

import os
import re

# Terminals obey the control characters C0 and C1. Bidirectional controls and invisible characters make a name look like
# another. Lone surrogates are what Python makes of a file name that is no UTF-8; no encoder takes them. The joiners
# U+200C and U+200D stay: Persian, Indic scripts and emoji need them.
_BESIDE_C0 = (
    "\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff"
)
_UNSAFE = re.compile(f"[\x00-\x1f{_BESIDE_C0}]")
_UNSAFE_IN_LINES = re.compile(f"[\x00-\x09\x0b-\x1f{_BESIDE_C0}]")
_UNSAFE_IN_JSON = re.compile(f"[{_BESIDE_C0}]")  # the encoder has escaped C0, and lays out with line breaks

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MARKDOWN = re.compile(r"[\\`*_\[\]#|~$]")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def for_terminal(text: str, *, lines: bool = False) -> str:
    r"""Text that a terminal shows and does not obey: what it would obey is written out, as `\x1b` or `\u202e`.

    Args:
        text: Anything.
        lines: Leave line breaks as they are, where they are the program's own.
    """
    return (_UNSAFE_IN_LINES if lines else _UNSAFE).sub(_written_out, text)


def for_json(document: str) -> str:
    """The same JSON document, whose strings a terminal can show: JSON has an escape for every character.

    Args:
        document: What `json.dumps(…, ensure_ascii=False)` gave.
    """
    return _UNSAFE_IN_JSON.sub(_json_escape, document)


def for_csv(cell: object) -> object:
    """A cell that a spreadsheet takes for what it is: text that would be a formula gets an apostrophe in front.

    Numbers, as such or as text, stay numbers. Text is one line, as `for_terminal` makes it.
    """
    if not isinstance(cell, str):
        return cell
    text = for_terminal(cell)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def for_markdown(text: str) -> str:
    """Text in a paragraph, a heading, a list or a table of Markdown: no mark-up, no HTML, no link, one line."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", for_terminal(text)).translate(_ENTITIES)
    return f"\\{escaped}" if escaped.startswith(("-", "+", "=", "!")) else escaped


def for_markdown_code(text: str) -> str:
    """Text as a code span of Markdown, in a table too."""
    text = for_terminal(text) or " "
    runs = [len(run) for run in re.findall("`+", text)]
    fence = "`" * (max(runs, default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|")


def for_picture(text: str, *, lines: bool = False) -> str:
    """Text in a matplotlib figure, where dollar signs would begin a formula.

    Args:
        text: Anything.
        lines: As for `for_terminal`.
    """
    return for_terminal(text, lines=lines).replace("$", r"\$")


def for_shell(path: str | os.PathLike[str]) -> str:
    """A path as one word of a command line that can be copied; never an option, never two words.

    What a terminal would obey is written in bash's and zsh's `$'…'`, so that the line shows what it does.
    """
    text = os.fspath(path)
    if text.startswith("-"):
        text = f"./{text}"
    if _PLAIN_WORD.fullmatch(text):
        return text
    if not _UNSAFE.search(text):
        return "'" + text.replace("'", "'\"'\"'") + "'"
    return "$'" + "".join(map(_ansi_c, text)) + "'"


def _written_out(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()


def _json_escape(match: re.Match[str]) -> str:
    units = match.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _ansi_c(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if not _UNSAFE.match(character):
        return character
    # The byte of a name that is no UTF-8 is the low half of its surrogate; octal, since it has a fixed length.
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", _surrogate_bytes(character)))


def _surrogate_bytes(character: str) -> str:
    return "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
