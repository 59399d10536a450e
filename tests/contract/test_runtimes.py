"""What every runtime in the registry has to do. A new row is tested here with no edit."""

from __future__ import annotations

import concurrent.futures
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import LABELS, tiny_model
from vitrify.cuda import gpu_or_none
from vitrify.errors import OptionError, RuntimeFailureError, VitrifyError
from vitrify.runtimes import RUNTIMES, RuntimeOptions, RuntimeRow, TensorInfo, infer_logits, open_runtime

NEEDS_GPU = pytest.mark.skipif(gpu_or_none() is None, reason="needs a GPU")
ROWS = [
    pytest.param(row, id=row.name, marks=[NEEDS_GPU] if row.name == "cuda" else []) for row in RUNTIMES if row.installed
]


@pytest.fixture
def model_file(request: pytest.FixtureRequest, artifact: Path, checkpoint: Path) -> Path:
    row: RuntimeRow = request.getfixturevalue("row")
    if ".engine" in row.suffixes:
        engine: Path = request.getfixturevalue("engine")
        return engine
    return artifact if ".onnx" in row.suffixes else checkpoint


class Foreign(RuntimeOptions):
    """Options of no runtime here."""


_seeds = itertools.count()


def images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Other images at every call: an answer to another batch, or in another row, is seen."""
    return np.random.default_rng(next(_seeds)).standard_normal((count, 3, 32, 32), dtype=np.float32)


@pytest.mark.parametrize("row", ROWS)
def test_describes_the_model(row: RuntimeRow, model_file: Path) -> None:
    with row.load()(model_file) as runtime:
        signature = runtime.describe()
        assert signature.inputs == (TensorInfo(name="image", dtype="float32", shape=(None, 3, 32, 32)),)
        assert signature.outputs == (TensorInfo(name="logits", dtype="float32", shape=(None, len(LABELS))),)
        assert [signature.fitting_batch(count) for count in (1, 3, 64)] == [1, 3, 64]
        assert runtime.spec.labels == LABELS
        assert runtime.versions()


@pytest.mark.parametrize("row", ROWS)
def test_agrees_with_the_pytorch_model(row: RuntimeRow, model_file: Path) -> None:
    model = tiny_model()
    with row.load()(model_file) as runtime:
        for count in (1, 2, 3, 8, 1):
            batch = images(count)
            with torch.inference_mode():
                want = model(torch.from_numpy(batch)).numpy()
            got = runtime.infer({"image": batch})
            assert list(got) == ["logits"]
            assert got["logits"].dtype == np.float32
            exact = {"cuda": 1e-2}.get(row.name, 1e-4)  # which has no more than fp16
            np.testing.assert_allclose(got["logits"], want, rtol=exact, atol=exact)


@pytest.mark.parametrize("row", ROWS)
def test_answers_are_not_overwritten_by_the_next(row: RuntimeRow, model_file: Path) -> None:
    with row.load()(model_file) as runtime:
        first = runtime.infer({"image": images(2)})["logits"]
        kept = first.copy()
        runtime.infer({"image": images(2)})
        assert np.array_equal(first, kept)


@pytest.mark.parametrize("row", ROWS)
def test_an_input_that_is_not_contiguous(row: RuntimeRow, model_file: Path) -> None:
    batch = images(4)
    with row.load()(model_file) as runtime:
        want = runtime.infer({"image": np.ascontiguousarray(batch[::2, :, ::-1])})["logits"]
        np.testing.assert_array_equal(runtime.infer({"image": batch[::2, :, ::-1]})["logits"], want)


@pytest.mark.parametrize("row", ROWS)
def test_many_threads_share_one_runtime(row: RuntimeRow, model_file: Path) -> None:
    batches = [images(1 + n % 4) for n in range(24)]
    with row.load()(model_file) as runtime, concurrent.futures.ThreadPoolExecutor(6) as pool:
        alone = [runtime.infer({"image": batch})["logits"] for batch in batches]
        together = list(pool.map(lambda batch: runtime.infer({"image": batch})["logits"], batches))
    exact = {"cuda": 1e-3}.get(row.name, 1e-5)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=exact, atol=exact)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ({}, "image"),
        ({"pixels": images(1)}, "pixels"),
        ({"image": images(1), "more": images(1)}, "more"),
        ({"image": images(1).astype(np.float64)}, "float64"),
        ({"image": images(1)[0]}, r"\[3, 32, 32\]"),
        ({"image": images(1)[:, :, :31]}, r"\[1, 3, 31, 32\]"),
        ({"image": images(1)[:0]}, r"\[0, 3, 32, 32\]"),
    ],
)
def test_a_wrong_batch_is_named(
    row: RuntimeRow, model_file: Path, batch: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], says: str
) -> None:
    with row.load()(model_file) as runtime, pytest.raises(RuntimeFailureError, match=says):
        runtime.infer(batch)


@pytest.mark.parametrize("row", ROWS)
def test_a_batch_of_none_is_named_through_the_spec_too(row: RuntimeRow, model_file: Path) -> None:
    with row.load()(model_file) as runtime, pytest.raises(RuntimeFailureError, match=r"\[0, 3, 32, 32\]"):
        infer_logits(runtime, runtime.spec, images(1)[:0])


@pytest.mark.parametrize("row", ROWS)
def test_lifecycle(row: RuntimeRow, model_file: Path) -> None:
    runtime = row.load()(model_file)
    with pytest.raises(RuntimeFailureError, match="not open"):
        runtime.describe()
    with pytest.raises(RuntimeFailureError, match="not open"):
        runtime.infer({"image": images(1)})
    assert runtime.open() is runtime
    assert runtime.open() is runtime
    runtime.infer({"image": images(1)})
    runtime.close()
    runtime.close()
    with pytest.raises(RuntimeFailureError, match="not open"):
        runtime.infer({"image": images(1)})
    with runtime:
        runtime.infer({"image": images(1)})


@pytest.mark.parametrize("row", ROWS)
def test_a_precision_that_it_does_not_have(row: RuntimeRow, model_file: Path) -> None:
    with pytest.raises(OptionError, match=row.name):
        row.load()(model_file, row.options(precision="bf16" if row.name == "cuda" else "fp8"))


@pytest.mark.parametrize("row", ROWS)
def test_one_thread_gives_the_same(row: RuntimeRow, model_file: Path) -> None:
    before = torch.get_num_threads()
    options = row.options(**row.understood(threads=1))
    try:
        with row.load()(model_file) as many, row.load()(model_file, options) as one:
            batch = {"image": images(3)}
            np.testing.assert_allclose(many.infer(batch)["logits"], one.infer(batch)["logits"], rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("row", ROWS)
def test_an_option_that_it_does_not_understand(row: RuntimeRow, model_file: Path) -> None:
    with pytest.raises(OptionError, match=rf"{row.name} runtime has no option turbo[\s\S]*precision"):
        open_runtime(model_file, row.name, turbo=True)
    with pytest.raises(OptionError, match=r"runtime has no option turbo"):
        open_runtime(model_file, turbo=True)
    with pytest.raises(OptionError, match=row.name):
        row.load()(model_file, Foreign())
    assert row.options(precision=None) == row.options() == row.load().options_type()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x00" * 4096])
def test_a_damaged_file_is_an_error_with_its_name(row: RuntimeRow, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"damaged{row.suffixes[0]}"
    path.write_bytes(content)
    with pytest.raises(VitrifyError) as caught:
        row.load()(path).open()
    assert "damaged" in str(caught.value)


@pytest.mark.parametrize("row", ROWS)
def test_a_truncated_model_is_an_error(row: RuntimeRow, model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / f"truncated{model_file.suffix}"
    path.write_bytes(model_file.read_bytes()[: model_file.stat().st_size // 2])
    with pytest.raises(VitrifyError):
        row.load()(path).open()
