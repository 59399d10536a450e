"""requirements/locked.txt holds what pyproject.toml asks for, and nothing without a hash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ENTRY = re.compile(
    r"^(?P<requirement>\S+==[^\\\n]+?) \\\n(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def locked(name: str) -> list[Requirement]:
    text = (ROOT / "requirements" / name).read_text()
    entries = list(ENTRY.finditer(text))
    assert "".join(entry[0] for entry in entries) == text, "something has no hash"
    return [Requirement(entry["requirement"]) for entry in entries]


def for_python(version: str) -> dict[str, str]:
    """Versions by name, where only the interpreter's version is another than here."""
    chosen: dict[str, str] = {}
    environment = {"python_version": version, "python_full_version": f"{version}.0"}
    for requirement in locked("locked.txt"):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in chosen, f"two versions of {name}"
            chosen[name] = str(requirement.specifier).removeprefix("==")
    return chosen


@pytest.mark.parametrize("version", PYTHONS)
def test_the_lock_holds_what_is_asked_for(version: str) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in ("train", "tensorrt", "dev"):
        wanted += project["project"]["optional-dependencies"][extra]
    chosen = for_python(version)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(chosen[canonicalize_name(requirement.name)]), requirement


def test_tools_are_locked() -> None:
    assert {"uv", "cyclonedx-bom"} <= {requirement.name for requirement in locked("tools.txt")}
    assert [requirement.name for requirement in locked("fuzz.txt")] == ["atheris"]
