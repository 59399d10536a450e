"""Writes scikit-learn's handwritten digits as an image folder.

    python make_folder.py digits/

The 1,797 scans of 8 x 8 pixels in 16 greys (E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, 1998, CC BY 4.0)
are split once, stratified and seeded: `train` is learnt from, `val` chooses the best epoch, and `test` is looked at by
nobody until the end, so that its accuracy is an honest one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SHARES = {"val": 180, "test": 360}


def main(root: Path) -> None:
    images, digits = load_digits(return_X_y=True)
    numbers = np.arange(len(images))
    rest, test = train_test_split(numbers, test_size=SHARES["test"], stratify=digits, random_state=0)
    train, val = train_test_split(rest, test_size=SHARES["val"], stratify=digits[rest], random_state=0)
    for name, members in {"train": train, "val": val, "test": test}.items():
        for number in members:
            path = root / name / str(digits[number]) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = np.round(images[number].reshape(8, 8) * (255 / 16)).astype(np.uint8)
            Image.fromarray(grey).save(path)
        print(f"{root / name}: {len(members)} images")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
