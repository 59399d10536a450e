"""An image folder: one sub-folder a class, the layout that torchvision, timm and Ultralytics read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from vitrify.errors import DatasetError
from vitrify.pixels import IMAGE_SUFFIXES

_LAYOUT = "DIR/<class>/*.jpg, one folder a class"
_SKIPPED_FOLDERS = ("__MACOSX",)
_OTHER_VALIDATION_NAMES = ("valid", "validation", "test", "testing")
_SPLIT_NAMES = frozenset(("train", "val", *_OTHER_VALIDATION_NAMES))


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Labelled images.

    Attributes:
        root: The folder that was scanned.
        labels: One name a class, sorted; the position is the class index.
        samples: `(path, class index)` of each image, sorted by class, then by path.
    """

    root: Path
    labels: tuple[str, ...]
    samples: tuple[tuple[Path, int], ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Each image's path, in the order of `samples`."""
        return tuple(path for path, _ in self.samples)

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class, in the order of `labels`."""
        counted = Counter(index for _, index in self.samples)
        return tuple(counted[index] for index in range(len(self.labels)))

    def without(self, paths: Collection[Path]) -> ImageFolder:
        """A copy that lacks these images.

        Raises:
            DatasetError: A class would have no image left.
        """
        left_out = frozenset(paths)
        rest = ImageFolder(
            root=self.root, labels=self.labels, samples=tuple(s for s in self.samples if s[0] not in left_out)
        )
        empty = [label for label, count in zip(self.labels, rest.counts, strict=True) if count == 0]
        if empty:
            raise DatasetError(
                f"a class of {self.root} has no readable image",
                got=_listed(empty),
                expected="at least one readable image a class",
                hint="replace its images, or remove the folder",
            )
        return rest


def scan_folder(root: str | os.PathLike[str], *, minimum_classes: int = 2) -> ImageFolder:
    """Lists the images of `root/<class>/`, nested files included, hidden ones not.

    Suffixes count without regard to case (`vitrify.pixels.IMAGE_SUFFIXES`); other files are passed over. Symbolic links
    are followed.

    Args:
        root: The folder of class folders.
        minimum_classes: Fewer are an error; training needs two, evaluation is content with one.

    Raises:
        DatasetError: No such folder, a file, an empty folder, too few classes, or a class without images.
    """
    root = Path(root)
    _check_folder(root)
    folders = _class_folders(root)
    if len(folders) > 1 and _SPLIT_NAMES.issuperset(folder.name for folder in folders):
        # Every file below a class folder counts, so the halves of a split would pass for two classes.
        raise DatasetError(
            f"the folders of {root} are the parts of a split, not classes",
            got=", ".join(folder.name for folder in folders),
            expected=_LAYOUT,
            hint=_split_hint(root),
        )
    found: dict[str, list[Path]] = {}
    for folder in folders:
        found[folder.name] = sorted(_files(folder), key=Path.as_posix)
    images = {label: [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES] for label, paths in found.items()}
    if not any(images.values()):
        raise _no_images(root, found)
    empty = [label for label, paths in images.items() if not paths]
    if empty:
        raise DatasetError(
            f"a class of {root} has no images",
            got=f"{_listed(empty)}: {_suffixes(path for label in empty for path in found[label])}",
            expected=f"at least one of {', '.join(IMAGE_SUFFIXES)} in each class folder",
            hint="add images, or remove the folder",
        )
    labels = tuple(sorted(images))
    if len(labels) < minimum_classes:
        raise DatasetError(
            f"{root} has too few classes",
            got=f"{len(labels)}: {_listed(labels)}",
            expected=f"at least {minimum_classes}, {_LAYOUT}",
            hint=_split_hint(root) if labels == ("train",) else "name the folder that holds the class folders",
        )
    samples = tuple((path, index) for index, label in enumerate(labels) for path in images[label])
    return ImageFolder(root=root, labels=labels, samples=samples)


def scan_train_val(root: str | os.PathLike[str]) -> tuple[ImageFolder, ImageFolder] | None:
    """Reads `root/train/<class>` and `root/val/<class>`, or answers None where `root` does not have that layout.

    Raises:
        DatasetError: As `scan_folder`, or the two folders do not have the same classes.
    """
    root = Path(root)
    _check_folder(root)
    if not ((root / "train").is_dir() and (root / "val").is_dir()):
        return None
    train = scan_folder(root / "train")
    val = scan_folder(root / "val", minimum_classes=1)
    only_val = sorted(set(val.labels) - set(train.labels))
    only_train = sorted(set(train.labels) - set(val.labels))
    if only_val or only_train:
        raise DatasetError(
            f"the classes of {root}/train and {root}/val differ",
            got="; ".join(
                f"only in {name}: {_listed(labels)}"
                for name, labels in (("val", only_val), ("train", only_train))
                if labels
            ),
            expected="the same class folders in both",
            hint="check the spelling of the folder names, upper and lower case included",
        )
    return train, val


def _check_folder(root: Path) -> None:
    if not root.exists():
        raise DatasetError(f"no such folder: {root}", expected=_LAYOUT, hint="check the path")
    if not root.is_dir():
        raise DatasetError(f"{root} is a file", expected=_LAYOUT, hint=f"try {root.parent}")


def _class_folders(root: Path) -> list[Path]:
    return [
        p
        for p in sorted(root.iterdir())
        if p.is_dir() and not p.name.startswith(".") and p.name not in _SKIPPED_FOLDERS
    ]


def _files(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()  # a link that leads back up must not loop
    for current, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(current)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED_FOLDERS]
        yield from (Path(current, name) for name in files if not name.startswith("."))


def _no_images(root: Path, found: dict[str, list[Path]]) -> DatasetError:
    loose = [p for p in root.iterdir() if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES]
    if loose:
        got, hint = f"{len(loose)} images directly in it", "move each image into a folder that is named after its class"
    elif found:
        got, hint = _suffixes(p for paths in found.values() for p in paths), "convert the files, or check the path"
    else:
        got, hint = "no folder in it", "check the path"
    return DatasetError(
        f"no images in {root}", got=got, expected=f"{_LAYOUT}; suffixes {', '.join(IMAGE_SUFFIXES)}", hint=hint
    )


def _suffixes(paths: Iterator[Path]) -> str:
    counted = Counter(path.suffix.lower() or "no suffix" for path in paths)
    return ", ".join(f"{count} x {suffix}" for suffix, count in counted.most_common(8)) or "no files"


def _split_hint(root: Path) -> str:
    other = next((name for name in _OTHER_VALIDATION_NAMES if (root / name).is_dir()), None)
    if other and not (root / "val").is_dir():
        return f"a ready split is train/ and val/: rename {other}/ to val/, or name {root / 'train'}"
    return f"a ready split is train/ and val/; for one of its parts name {root / 'train'}"


def _listed(names: Collection[str], limit: int = 8) -> str:
    shown = ", ".join(list(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
