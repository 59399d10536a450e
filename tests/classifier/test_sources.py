from __future__ import annotations

import io
from pathlib import Path

import pytest

from vitrify.classifier import expand_sources, pick_evenly
from vitrify.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "deep/er/c.webp", "notes.txt", "d[1].bmp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def test_a_folder_gives_its_images_sorted(folder: Path) -> None:
    names = [Path(str(source)).relative_to(folder).as_posix() for source in expand_sources([str(folder)])]
    assert names == ["a.PNG", "b.jpg", "d[1].bmp", "deep/er/c.webp"]


def test_globs_and_names_with_brackets(folder: Path) -> None:
    assert expand_sources([f"{folder}/*.jpg"]) == [f"{folder}/b.jpg"]
    assert expand_sources([f"{folder}/**/*.webp"]) == [f"{folder}/deep/er/c.webp"]
    assert expand_sources([f"{folder}/d[1].bmp"]) == [f"{folder}/d[1].bmp"]


def test_a_named_file_is_taken_as_it_is(folder: Path) -> None:
    assert expand_sources(["gone.jpg", f"{folder}/notes.txt"]) == ["gone.jpg", f"{folder}/notes.txt"]


def test_standard_input_is_an_image_or_a_list() -> None:
    assert expand_sources(["-"], stdin=io.BytesIO(b"a.jpg\n\nb c.png\n")) == ["a.jpg", "b c.png"]
    picture = b"\x89PNG\r\n\x1a\n rest"
    assert expand_sources(["x.jpg", "-"], stdin=io.BytesIO(picture)) == ["x.jpg", picture]


def test_names_that_give_nothing(folder: Path) -> None:
    with pytest.raises(InputError, match="nothing matches"):
        expand_sources([f"{folder}/*.tiff"])
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no images in"):
        expand_sources([str(folder / "empty")])


def test_a_few_of_many_are_spread_evenly() -> None:
    assert pick_evenly(["a", "b"], 5) == ["a", "b"]
    names = [str(number) for number in range(100)]
    assert pick_evenly(names, 4) == ["0", "25", "50", "75"]
