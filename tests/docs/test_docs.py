"""The documents say what the program does: their commands parse, their Python runs, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vitrify.cli.app import make_app

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    lines = [line for block in blocks(page, "(?:bash|console)") for line in block.replace("\\\n", " ").splitlines()]
    lines = [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines]
    # What comes after a pipe or goes to a file is the shell's. The reference pages show usage lines, no commands.
    lines = [re.sub(r"^.*\| (?=vitrify )|\s*[>|] .*$", "", line) for line in lines]
    return [line for line in lines if line.startswith("vitrify ") and "OPTIONS" not in line and "COMMAND" not in line]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_parse(page: Path) -> None:
    app = make_app(resolved=True)
    for line in commands(page):
        words = shlex.split(line)[1:]
        app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_has_commands_and_python() -> None:
    assert len(commands(ROOT / "README.md")) >= 6
    assert blocks(ROOT / "README.md", "python")


@pytest.mark.parametrize(
    ("page", "shown"), [("README.md", r"^tulip\.jpg \w+ 0\.\d+"), ("docs/how-to/deploy.md", r"^\w+ 0\.\d+")]
)
def test_the_python_runs(page: str, shown: str, artifact: Path, tmp_path: Path) -> None:
    for name in ("flowers.onnx", "model.onnx"):
        (tmp_path / name).write_bytes(artifact.read_bytes())
    for name in ("tulip.jpg", "rose.jpg", "photo.jpg"):
        Image.new("RGB", (60, 40), "tomato").save(tmp_path / name)
    for code in blocks(ROOT / page, "python"):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert re.search(shown, done.stdout, flags=re.MULTILINE)


def test_the_reference_is_not_stale() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_reference.py"), "--check"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
