"""What a GPU is told of a batch: the plan, followed in NumPy, makes the CPU core's tensors to the last bit."""

from __future__ import annotations

import io
import os
import signal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.pixels.batch_reference import run_plan
from tests.pixels.test_preprocess import FILTERS, picture
from vitrify.errors import ImageError
from vitrify.pixels import DecodeLimits, Decoders, preprocess
from vitrify.pixels.batches import BatchPlan, StoredImage, value_table
from vitrify.spec import Interpolation, Preprocess, ResizeRule

DECODERS = Decoders(2)


def make_spec(
    rule: ResizeRule = "shortest",
    box: tuple[int, int] = (36, 36),
    crop: tuple[int, int] = (32, 32),
    name: Interpolation = "bicubic",
) -> Preprocess:
    return Preprocess(
        resize_rule=rule,
        resize_width=box[0],
        resize_height=box[1],
        crop_width=crop[0],
        crop_height=crop[1],
        interpolation=name,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        fill=(7, 128, 250),
    )


def tensors(sources: list[bytes | npt.NDArray[np.uint8]], spec: Preprocess) -> npt.NDArray[np.float32]:
    """Opened, planned, decoded and prepared as for a GPU."""
    images = [image for image in DECODERS.open(sources, spec) if not isinstance(image, ImageError)]
    assert len(images) == len(sources)
    plan = BatchPlan(spec)
    windows = plan.fill([(image.width, image.height, image.orientation) for image in images])
    memory = np.full(plan.pixel_bytes, 99, np.uint8)
    assert DECODERS.decode(images, windows, memory) == [None] * len(images)
    numbers = np.frombuffer(plan.numbers, np.int32)
    return run_plan(
        plan.jobs,
        numbers,
        memory,
        table=value_table(spec),
        fill=spec.fill,
        crop=(spec.crop_width, spec.crop_height),
    )


def encoded(rgb: npt.NDArray[np.uint8], kind: str, orientation: int) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(file, kind, exif=exif)
    return file.getvalue()


@settings(max_examples=120, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 8)), min_size=1, max_size=4),
    rule=st.sampled_from(["shortest", "squash", "longest"]),
    box=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    crop=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    name=st.sampled_from(FILTERS),
    kind=st.sampled_from(["PNG", "JPEG", "WEBP"]),
)
def test_a_batch_of_any_images_gives_the_cpu_cores_tensors(
    *,
    sizes: list[tuple[int, int, int]],
    rule: ResizeRule,
    box: tuple[int, int],
    crop: tuple[int, int],
    name: Interpolation,
    kind: str,
) -> None:
    box = (box[0], box[0]) if rule == "shortest" else box
    spec = make_spec(rule, box, crop, name)
    files = [encoded(picture(height, width, seed=at), kind, turn) for at, (width, height, turn) in enumerate(sizes)]
    np.testing.assert_array_equal(tensors([*files], spec), preprocess(files, spec))


def test_arrays_and_images_whose_lines_come_in_many_chunks() -> None:
    arrays = [picture(1300, 1100), picture(40, 900), picture(900, 40), picture(1, 1)]
    np.testing.assert_array_equal(tensors([*arrays], make_spec()), preprocess(arrays, make_spec()))


def test_a_plan_holds_one_batch() -> None:
    plan = BatchPlan(make_spec())
    first = plan.fill([(50, 40, 1)])
    jobs, numbers, size = plan.jobs, plan.numbers, plan.pixel_bytes
    windows = plan.fill([(10, 20, 6), (50, 40, 1)])
    assert (windows[0].at, windows[1].at > 0) == (0, True)
    plan.fill([(50, 40, 1)])
    assert (plan.jobs, plan.numbers, plan.pixel_bytes, first[0].at) == (jobs, numbers, size, 0)


def test_what_is_wrong_with_one_image_stays_with_it() -> None:
    good, spec = encoded(picture(60, 50), "JPEG", 1), make_spec()
    answers = DECODERS.open([good, b"BM no image", good[: len(good) // 2], good], spec)
    assert [isinstance(answer, ImageError) for answer in answers] == [False, True, False, False]
    images = [answer for answer in answers if isinstance(answer, StoredImage)]
    plan = BatchPlan(spec)
    memory = np.zeros(10**5, np.uint8)
    failures = DECODERS.decode(images, plan.fill([(image.width, image.height, 1) for image in images]), memory)
    assert [failure is None for failure in failures] == [True, False, True]
    assert "truncated" in str(failures[1])


def test_limits_hold_before_memory_is_taken() -> None:
    (refused,) = DECODERS.open([encoded(picture(60, 50), "PNG", 1)], make_spec(), limits=DecodeLimits(max_pixels=2999))
    assert isinstance(refused, ImageError)


def test_memory_that_does_not_suffice_is_refused() -> None:
    spec = make_spec()
    images = [one for one in DECODERS.open([picture(60, 50)], spec) if isinstance(one, StoredImage)]
    windows = BatchPlan(spec).fill([(50, 60, 1)])
    with pytest.raises(ValueError, match="outside its image or the memory"):
        DECODERS.decode(images, windows, np.zeros(10, np.uint8))
    with pytest.raises(ValueError, match="outside its image or the memory"):
        DECODERS.decode(images, BatchPlan(spec).fill([(500, 600, 1)]), np.zeros(10**6, np.uint8))


def test_a_batch_is_prepared_in_given_memory() -> None:
    spec = make_spec()
    sources: list[bytes | npt.NDArray[np.uint8]] = [
        encoded(picture(60, 50), "PNG", 1),
        b"no",
        picture(40, 70),
        encoded(picture(90, 30), "JPEG", 6),
    ]
    memory = np.full((5, 3, 32, 32), 7, np.float32)
    failures = DECODERS.prepare(sources, spec, memory[:4])
    assert [failure is None for failure in failures] == [True, False, True, True]
    np.testing.assert_array_equal(memory[[0, 2, 3]], preprocess([sources[0], *sources[2:]], spec))
    assert (memory[4] == 7).all()
    with pytest.raises(ValueError, match="another size"):
        DECODERS.prepare(sources, spec, memory)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_copy_in_a_forked_process_waits_for_no_threads() -> None:
    decoders, spec = Decoders(3), make_spec()
    decoders.prepare([picture(60, 50)] * 6, spec, np.empty((6, 3, 32, 32), np.float32))  # which starts them
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        del decoders
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
