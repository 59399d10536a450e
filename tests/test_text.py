"""Whatever a file or a label is called, what is shown of it is harmless, and ordinary text stays as it is."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.cbook import is_math_text

from vitrify.text import (
    for_csv,
    for_json,
    for_markdown,
    for_markdown_code,
    for_picture,
    for_shell,
    for_terminal,
)

ANYTHING = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates too
HOSTILE = ("\x1b]0;owned\x07", "\x9b31m", "a\u202egnp.exe", "two\nlines", "\udce9t\udce9", "\u2066x", "\ufeff", "\x00")
ORDINARY = ("daisy", "Löwenzahn", "雏菊", "सूरज\u200dमुखी", "👩\u200d🌾", "sea lion 2 (old), 50%", "")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_obeys_nothing(text: str) -> None:
    shown = for_terminal(text)
    assert shown.isprintable()
    assert "\\" in shown


@given(ANYTHING)
def test_what_is_shown_can_be_encoded_and_controls_nothing(text: str) -> None:
    shown = for_terminal(text)
    shown.encode()
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(c) for c in shown} & {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI"}
    assert for_terminal(shown) == shown
    assert for_terminal(text, lines=True).replace("\n", "\\n") == shown


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert for_terminal(text) == for_csv(text) == for_picture(text) == for_markdown(text) == text


@given(st.dictionaries(ANYTHING, ANYTHING))
def test_json_means_the_same(value: dict[str, str]) -> None:
    document = for_json(json.dumps(value, ensure_ascii=False, indent=2))
    document.encode()
    assert for_terminal(document, lines=True) == document
    assert json.loads(document) == json.loads(json.dumps(value))


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1+1"])
def test_a_formula_is_text(text: str) -> None:
    assert str(for_csv(text))[0] in "'\\"


@pytest.mark.parametrize("cell", [-0.25, 7, "-0.25", "+1e-3", "12", "-.5", None])
def test_numbers_stay_numbers(cell: object) -> None:
    assert for_csv(cell) == cell


@given(st.lists(ANYTHING, min_size=1, max_size=4))
def test_a_csv_row_is_one_line_of_as_many_cells_and_no_formula(cells: list[str]) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerow([for_csv(cell) for cell in cells])
    lines = written.getvalue().splitlines()
    assert len(lines) == 1
    (row,) = csv.reader(lines)
    assert len(row) == len(cells)
    for cell in row:
        assert not cell.startswith(("=", "@", "\t", "\r"))
        if cell.startswith(("+", "-")):
            float(cell)


@given(ANYTHING)
def test_markdown_has_neither_mark_up_nor_html_nor_another_line(text: str) -> None:
    shown = for_markdown(text)
    assert "\n" not in shown
    assert not set("<>") & set(shown)
    plain = shown
    for sign in "\\`*_[]#|~$":
        plain = plain.replace(f"\\{sign}", "")
    assert not set("\\`*_[]#|~$") & set(plain.removeprefix("\\"))


@given(ANYTHING)
def test_a_code_span_ends_where_it_should(text: str) -> None:
    shown = for_markdown_code(text)
    fence = shown[: len(shown) - len(shown.lstrip("`"))]
    inside = shown[len(fence) : -len(fence)]
    assert shown.endswith(fence)
    assert fence not in inside
    assert not inside.startswith("`")
    assert not inside.endswith("`")
    assert "|" not in shown.replace("\\|", "")


@given(ANYTHING)
def test_a_picture_has_no_formula(text: str) -> None:
    assert not is_math_text(for_picture(text))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.binary().map(os.fsdecode))
def test_a_shell_reads_the_path_that_was_meant(text: str) -> None:
    text = text.replace("\0", "")
    word = for_shell(text)
    assert for_terminal(word) == word
    assert not word.startswith("-")
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(f"./{text}" if text.startswith("-") else text)


def test_a_plain_path_needs_no_quotes() -> None:
    assert for_shell("runs/a-b_1/best.safetensors") == "runs/a-b_1/best.safetensors"
    assert for_shell("my run") == "'my run'"
    assert for_shell("") == "''"
    assert for_shell("-rf") == "./-rf"
