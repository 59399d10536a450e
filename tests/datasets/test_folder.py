from __future__ import annotations

from pathlib import Path

import pytest

from vitrify.datasets import scan_folder, scan_train_val
from vitrify.errors import DatasetError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def test_classes_are_sorted_and_nested_files_of_any_case_count(tmp_path: Path) -> None:
    touch(
        tmp_path, "b/2.JPG", "b/deep/er/1.jpeg", "a/x.WebP", "a/notes.txt", "a/.hidden.png", "readme.md", ".git/c.png"
    )
    folder = scan_folder(tmp_path)
    assert folder.labels == ("a", "b")
    assert [(p.relative_to(tmp_path).as_posix(), i) for p, i in folder.samples] == [
        ("a/x.WebP", 0),
        ("b/2.JPG", 1),
        ("b/deep/er/1.jpeg", 1),
    ]
    assert folder.counts == (1, 2)
    assert len(folder) == 3


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path, "store/1.png", "data/b/1.png")
    (tmp_path / "data/a").symlink_to(tmp_path / "store")
    (tmp_path / "data/b/loop").symlink_to(tmp_path / "data/b")
    assert scan_folder(tmp_path / "data").counts == (1, 1)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        scan_folder(tmp_path / "absent")


def test_a_file_where_a_folder_is_meant(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is a file"):
        scan_folder(touch(tmp_path, "a.png") / "a.png")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)no images in .*no folder in it"):
        scan_folder(tmp_path)


def test_images_without_class_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)2 images directly in it.*named after its class"):
        scan_folder(touch(tmp_path, "1.png", "2.jpg"))


def test_unknown_suffixes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)2 x \.tiff, 1 x \.heic.*\.jpg, \.jpeg, \.png"):
        scan_folder(touch(tmp_path, "a/1.tiff", "b/2.tiff", "b/3.heic"))


def test_one_class(tmp_path: Path) -> None:
    touch(tmp_path, "only/1.png")
    with pytest.raises(DatasetError, match=r"(?s)too few classes.*1: only"):
        scan_folder(tmp_path)
    assert scan_folder(tmp_path, minimum_classes=1).labels == ("only",)


def test_a_class_without_images(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.txt")
    (tmp_path / "c").mkdir()
    with pytest.raises(DatasetError, match=r"(?s)has no images.*b, c: 1 x \.txt"):
        scan_folder(tmp_path)


@pytest.mark.parametrize("other", ["valid", "test", "val"])
def test_the_halves_of_a_split_are_not_taken_for_classes(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/1.png", f"{other}/a/2.png", f"{other}/b/2.png")
    with pytest.raises(DatasetError, match=r"(?s)parts of a split.*train/ and val/"):
        scan_folder(tmp_path)


def test_train_alone_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)too few classes.*hint: a ready split is train/ and val/"):
        scan_folder(touch(tmp_path, "train/a/1.png", "train/b/1.png"))


def test_a_ready_split_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/2.png", "test/zzz/1.png")
    split = scan_train_val(tmp_path)
    assert split is not None
    train, val = split
    assert train.labels == val.labels == ("a", "b")
    assert scan_train_val(tmp_path / "train") is None


def test_the_classes_of_a_ready_split_must_agree(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/2.png", "val/B/2.png")
    with pytest.raises(DatasetError, match=r"(?s)only in val: B; only in train: b"):
        scan_train_val(tmp_path)


def test_without_keeps_the_labels_and_refuses_to_empty_a_class(tmp_path: Path) -> None:
    folder = scan_folder(touch(tmp_path, "a/1.png", "a/2.png", "b/1.png"))
    rest = folder.without([tmp_path / "a/1.png"])
    assert rest.counts == (1, 1)
    with pytest.raises(DatasetError, match=r"(?s)no readable image.*b"):
        folder.without([tmp_path / "b/1.png"])
