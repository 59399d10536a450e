"""Writes the golden files that Python and C++ are both held to: small awkward images and the tensors they become.

    python -m tests.golden.make_golden            writes them beside this script
    python -m tests.golden.make_golden DIRECTORY  writes them there, for comparison

The images come from integer arithmetic, their expected tensors from Pillow and timm alone; nothing of vitrify takes
part, except that `Preprocess.from_timm` names the fields. Files:

    images/*, cases.txt     name, width, height (upright) and FNV-1a 64 of the RGB bytes of each image
    specs.txt               name, then the fields of a spec, in the order of `spec_line`
    SPEC.f32                the tensors of all cases, little-endian float32, in the order of cases.txt
    generator.f32           the golden input of src/vitrify/spec/golden.py for shape (3, 5, 7), seed 2, cell 3
    hostile/*               files that must be refused with an ImageError
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, ImageOps
from timm.data.transforms_factory import create_transform

from tests.golden.awkward import awkward_images
from tests.golden.hostile import hostile_files
from vitrify.spec import Preprocess
from vitrify.spec.golden import golden_input

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPECS: dict[str, dict[str, Any]] = {
    "center": {"input_size": (3, 12, 12), "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center"},
    "squash": {"input_size": (3, 8, 10), "interpolation": "bilinear", "crop_pct": 0.9, "crop_mode": "squash"},
    "border": {"input_size": (3, 10, 8), "interpolation": "lanczos", "crop_pct": 1.0, "crop_mode": "border"},
}


def expected_pixels(path: Path) -> Image.Image:
    """What `vitrify.pixels.decode` documents."""
    with Image.open(path) as image, warnings.catch_warnings():
        if image.mode == "I;16":  # the high byte, where Pillow's own conversion clips
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        warnings.simplefilter("ignore")  # "palette images with transparency should be converted to RGBA"
        return ImageOps.exif_transpose(image).convert("RGB")


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def spec_line(name: str, spec: Preprocess) -> str:
    fields = (
        name, spec.resize_rule, spec.resize_width, spec.resize_height, spec.crop_width, spec.crop_height,
        spec.interpolation, *spec.mean, *spec.std, *spec.fill,
    )  # fmt: skip
    return " ".join(str(field) for field in fields)


def make(folder: Path) -> None:
    """Writes every golden file under `folder`."""
    for name in ("images", "hostile"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, data in awkward_images().items():
        (folder / "images" / name).write_bytes(data)
    for name, data in hostile_files().items():
        (folder / "hostile" / name).write_bytes(data)

    images = {name: expected_pixels(folder / "images" / name) for name in sorted(awkward_images())}
    cases = [f"# Pillow {PIL.__version__}"]
    cases += [f"{name} {image.width} {image.height} {fnv1a(image.tobytes()):016x}" for name, image in images.items()]
    (folder / "cases.txt").write_text("\n".join(cases) + "\n")

    lines = []
    for name, differences in SPECS.items():
        config = {"mean": MEAN, "std": STD, **differences}
        lines.append(spec_line(name, Preprocess.from_timm(config)))
        options = {key: value for key, value in config.items() if key != "input_size"}
        transform = create_transform(input_size=config["input_size"][1:], **options)
        write_floats(folder / f"{name}.f32", np.stack([transform(image).numpy() for image in images.values()]))
    (folder / "specs.txt").write_text("\n".join(lines) + "\n")
    write_floats(folder / "generator.f32", golden_input((3, 5, 7), seed=2, cell=3))


def write_floats(path: Path, values: npt.NDArray[np.float32]) -> None:
    path.write_bytes(values.astype("<f4").tobytes())


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
