"""When a loss is beyond its limit and when that is chance, against SciPy's binomials and against drawing lots."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats  # type: ignore[import-untyped]

from tests.workflows.quantize.quantizing import a_search
from vitrify.spec import Attempt
from vitrify.workflows.quantize.limits import Loss
from vitrify.workflows.quantize.report import search_notes

CONFIDENCE = 0.8


@pytest.mark.parametrize("images", [32, 96, 243, 500, 2000])
@pytest.mark.parametrize(("allowed", "confidence"), [(0.005, 0.8), (0.01, 0.8), (0.01, 0.95), (0.03, 0.5)])
def test_without_gains_the_limit_is_the_binomials(images: int, allowed: float, confidence: float) -> None:
    for lost in range(int(3 * allowed * images) + 6):
        chance = stats.binom.sf(lost - 1, images, allowed)
        beyond = lost > allowed * images + 1e-9 and chance <= 1 - confidence
        assert Loss(images=images, lost=lost).is_beyond(allowed, confidence) == beyond


@pytest.mark.parametrize(("images", "lost"), [(96, 0), (96, 1), (243, 7), (2000, 30), (50, 50)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_without_gains_the_bounds_are_clopper_and_pearsons(images: int, lost: int, confidence: float) -> None:
    low = stats.beta.ppf(1 - confidence, lost, images - lost + 1) if lost else 0.0
    high = stats.beta.ppf(confidence, lost + 1, images - lost) if lost < images else 1.0
    assert Loss(images=images, lost=lost).bounds(confidence) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize(("lost", "gained"), [(3, 0), (0, 3), (8, 5), (40, 24), (0, 0)])
@pytest.mark.parametrize("loss", [0.005, -0.01, 0.05])
def test_the_likeliest_share_of_gains_is_found_by_a_solver_too(lost: int, gained: int, loss: float) -> None:
    images = 500

    def unlikely(share: float) -> float:
        kinds = (share + loss, share, 1 - 2 * share - loss)
        return -sum(
            count * math.log(max(kind, 1e-300))
            for count, kind in zip((lost, gained, images - lost - gained), kinds, strict=True)
        )

    found = optimize.minimize_scalar(
        unlikely, bounds=(max(0, -loss), (1 - loss) / 2), method="bounded", options={"xatol": 1e-10}
    )
    assert Loss(images=images, lost=lost, gained=gained)._gained_share(loss) == pytest.approx(found.x, abs=2e-6)


@pytest.mark.parametrize("gains", [0.0, 0.01, 0.03])
@pytest.mark.parametrize("images", [100, 243, 1000])
def test_what_loses_just_what_is_allowed_is_refused_as_seldom_as_stated(images: int, gains: float) -> None:
    allowed, draws = 0.005, 4000
    rng = np.random.default_rng(images)
    counts = rng.multinomial(images, (gains + allowed, gains, 1 - 2 * gains - allowed), size=draws)
    kinds, times = np.unique(counts[:, :2], axis=0, return_counts=True)
    refused = sum(
        count
        for (lost, gained), count in zip(kinds.tolist(), times.tolist(), strict=True)
        if Loss(images=images, lost=lost, gained=gained).is_beyond(allowed, CONFIDENCE)
    )
    assert refused / draws <= 1 - CONFIDENCE + 0.015  # four standard errors of 4000 draws at 20% are 2.5%


@pytest.mark.parametrize(
    ("images", "lost", "gained", "beyond"),
    [
        (243, 1, 0, False),  # 0.41 points: within
        (243, 2, 0, False),  # 0.82 points: one answer more than is allowed, and chance in 34 of 100
        (243, 3, 0, True),
        (243, 4, 1, False),  # as many net, but where answers are gained too, chance is larger
        (243, 5, 1, True),
        (32, 1, 0, False),
        (32, 2, 0, True),
        (2000, 10, 0, False),
        (2000, 13, 0, False),
        (2000, 14, 0, True),
        (2000, 40, 24, False),  # 16 net, as many as would be beyond without the 24 gains
        (2000, 16, 0, True),
        (2000, 20, 20, False),
    ],
)
def test_both_ends(images: int, lost: int, gained: int, beyond: bool) -> None:
    assert Loss(images=images, lost=lost, gained=gained).is_beyond(0.005, CONFIDENCE) == beyond


@pytest.mark.parametrize("images", [32, 100, 243, 1000, 2000])
def test_what_is_broken_is_refused_on_any_number_of_images(images: int) -> None:
    assert Loss(images=images, lost=images // 10, gained=0).is_beyond(0.005, CONFIDENCE)
    assert Loss(images=images, lost=images // 10).is_beyond(0.01, CONFIDENCE)
    if images >= 100:
        assert Loss(images=images, lost=images // 20, gained=images // 100).is_beyond(0.005, CONFIDENCE)


def test_at_half_confidence_what_was_measured_decides() -> None:
    for images in (100, 200, 243, 2000):
        for lost in range(20):
            measured = lost > 0.005 * images + 1e-9
            # Of a binomial, more than half lies at or above any whole number up to its mean.
            assert Loss(images=images, lost=lost).is_beyond(0.005, 0.5) == measured or lost <= 0.005 * images + 1


def test_none_may_be_lost_is_meant_so() -> None:
    assert Loss(images=2000, lost=1, gained=0).is_beyond(0.0, 0.99)
    assert not Loss(images=2000, lost=1, gained=1).is_beyond(0.0, 0.99)
    # 0.5% of 200 images is one image, whatever binary fractions make of it.
    assert not Loss(images=200, lost=1).is_beyond(1 - 0.995, 0.5)


def test_the_images_that_are_needed_do_tell() -> None:
    # Of 322 images none is lost with a chance of 20% where half a point is; of 598, the rule of three, with 5%.
    assert 322 <= (Loss(images=243, lost=0, gained=0).images_needed(0.005, 0.8) or 0) <= 1.1 * 322
    assert 598 <= (Loss(images=243, lost=0, gained=0).images_needed(0.005, 0.95) or 0) <= 1.1 * 598
    for lost, gained in ((0, 0), (1, 0), (2, 0), (2, 1)):
        few = Loss(images=243, lost=lost, gained=gained)
        needed = few.images_needed(0.005, CONFIDENCE)
        assert needed is not None
        assert needed > 243
        scale = needed / 243
        many = Loss(images=needed, lost=round(lost * scale), gained=round(gained * scale))
        low, high = many.bounds(CONFIDENCE)
        assert low > 0.005 or high <= 0.005 + 1e-5
    assert Loss(images=243, lost=30, gained=0).images_needed(0.005, CONFIDENCE) == 0
    assert Loss(images=2000, lost=0, gained=0).images_needed(0.005, CONFIDENCE) == 0
    assert Loss(images=200, lost=1, gained=0).images_needed(0.005, CONFIDENCE) is None


def test_a_report_says_how_many_images_would_tell() -> None:
    def notes(lost: int, images: int) -> list[str]:
        taken = Attempt(recipe="int8", precision="int8", lost=lost, gained=0, passed=True)
        return search_notes(a_search(taken, images=images, taken=0))

    (note,) = notes(1, 243)
    assert note.startswith("of 243 answers 1 was lost and 0 gained: with 80% confidence no more than 1.2% is lost, but")
    assert "0.5% is allowed; about " in note
    assert note.endswith("00 images like these would tell")
    assert "no number of such images would tell" in notes(1, 200)[0]
    assert notes(0, 2000) == []
