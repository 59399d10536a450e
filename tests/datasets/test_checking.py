from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitrify.datasets import bad_images_error, check_images


def test_the_unreadable_ones_come_back_with_the_reason(tmp_path: Path) -> None:
    good, empty, cut, absent = (tmp_path / name for name in ("good.png", "empty.png", "cut.png", "absent.png"))
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(good)
    empty.write_bytes(b"")
    cut.write_bytes(good.read_bytes()[:1500])
    kept: dict[Path, tuple[int, ...]] = {}

    def keep(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
        kept[path] = pixels.shape

    bad = dict(check_images([good, empty, cut, absent], keep=keep))
    assert list(bad) == [empty, cut, absent]
    assert "not an image" in bad[empty]
    assert "damaged or truncated" in bad[cut]
    assert "cannot read" in bad[absent]
    assert kept == {good: (32, 32, 3)}


def test_the_error_lists_twenty_and_counts_the_rest() -> None:
    text = str(
        bad_images_error([(Path(f"data/{i:02}.png"), "torn") for i in range(23)], Path("data"), hint="mend them")
    )
    assert text.startswith("23 unreadable images in data")
    assert "19.png: torn" in text
    assert "20.png" not in text
    assert "and 3 more" in text
    assert text.endswith("hint: mend them")
