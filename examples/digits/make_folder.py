"""Writes scikit-learn's handwritten digits as an image folder.

    python make_folder.py digits/

The 1,797 scans of 8 x 8 pixels in 16 greys (E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, 1998, CC BY 4.0)
are split once, stratified and seeded: 1,437 in `train`, 360 held out in `val`. Each scan is written four times as
large, because the random crops of training could only move in steps of an eighth of the picture otherwise.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HELD_OUT = 360
SIDE = 32


def main(root: Path) -> None:
    images, digits = load_digits(return_X_y=True)
    train, val = train_test_split(np.arange(len(images)), test_size=HELD_OUT, stratify=digits, random_state=0)
    for name, members in {"train": train, "val": val}.items():
        for number in members:
            path = root / name / str(digits[number]) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = np.round(images[number].reshape(8, 8) * (255 / 16)).astype(np.uint8)
            Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
        print(f"{root / name}: {len(members)} images")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
