"""The guard can fail, and passes where it should."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.benchmark import guarding
from vitrify.timing import Turns


def test_a_slow_down_fails_and_a_speed_up_passes() -> None:
    contenders = {"ours": lambda: time.sleep(0.010), "theirs": lambda: time.sleep(0.012)}
    assert guarding.best_of(contenders, "ours", "theirs", 1.5) < 1.5
    contenders["theirs"] = lambda: time.sleep(0.030)
    assert guarding.best_of(contenders, "ours", "theirs", 1.5) >= 1.5


def test_one_more_try_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled, good = (Turns(seconds={"a": (1.0,), "b": (slow,)}) for slow in (1.0, 2.0))
    for measured, expected in (([spoiled, good], 2.0), ([spoiled, spoiled, good], 1.0)):
        given = iter(measured)
        monkeypatch.setattr(guarding, "take_turns", lambda *_, given=given, **__: next(given))
        assert guarding.best_of({}, "a", "b", 1.5) == expected


def test_what_linux_tells_of_a_processor(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    for text, expected in (
        ("flags\t\t: fpu avx512_vnni sse\n", True),
        ("flags : avx2 avx512f\n", False), ("Features : fp asimddp\n", True),
    ):  # fmt: skip
        file.write_text("processor : 0\n" + text)
        assert guarding.has_any(guarding.INT8_PRODUCTS, file) == expected
    assert not guarding.has_any(guarding.INT8_PRODUCTS, tmp_path / "absent")
