"""Speed that must not be lost, as ratios within one run; wall clock is never compared with a stored number."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image

from tests.benchmark.guarding import INT8_PRODUCTS, best_of, has_any
from vitrify.artifacts import read_spec
from vitrify.checkpoints import save_checkpoint
from vitrify.graphs import write_artifact
from vitrify.pixels import preprocess
from vitrify.precision import Recipe, Rewriter
from vitrify.runtimes import has_native_bf16, infer_logits, open_runtime
from vitrify.spec import InputSpec, ModelSpec, Precision, Preprocess, Source, golden_recipe_batch
from vitrify.workflows.export import onnx_from_checkpoint

pytestmark = pytest.mark.speed
MEAN = STD = (0.5, 0.5, 0.5)
PIXELS = Preprocess(
    resize_rule="shortest", resize_height=248, resize_width=248, crop_height=224, crop_width=224,
    interpolation="bicubic", mean=MEAN, std=STD,
)  # fmt: skip


def test_preprocessing_beats_pillow_and_numpy() -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((2400, 1800), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()

    def pillow() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        image = Image.open(io.BytesIO(data)).convert("RGB").resize((330, 248), Image.Resampling.BICUBIC)
        left, top = round((330 - 224) / 2), round((248 - 224) / 2)
        pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
        return np.ascontiguousarray(((pixels - np.float32(0.5)) / np.float32(0.5)).transpose(2, 0, 1)[None])

    def ours() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return preprocess([data], PIXELS, threads=1)

    assert np.abs(ours() - pillow()).max() < 1e-6  # the same work
    needed = 4.0 if has_any(("avx2",)) else 1.5  # 6.8 with AVX-512
    assert best_of({"ours": ours, "pillow": pillow}, "ours", "pillow", needed) >= needed


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four blocks of ViT-S at 224 pixels, random weights, in fp32: large enough that matrix products take the time."""
    import timm
    import torch

    folder = tmp_path_factory.mktemp("middle")
    torch.manual_seed(0)
    kwargs: dict[str, Any] = {"depth": 4, "embed_dim": 384, "num_heads": 6}
    model = timm.create_model("vit_base_patch16_224", num_classes=10, **kwargs).eval()
    spec = ModelSpec(
        input=InputSpec(height=224, width=224), preprocess=PIXELS, labels=tuple("0123456789"),
        source=Source(architecture="vit_base_patch16_224", model_kwargs=dict(kwargs), created_by="test"),
    )  # fmt: skip
    save_checkpoint(folder / "middle.safetensors", model, spec)
    return onnx_from_checkpoint(folder / "middle.safetensors", folder / "middle.onnx").path


@pytest.fixture(scope="module")
def middle_int8(middle: Path) -> Path:
    """The same in int8, calibrated on the golden inputs."""
    spec = read_spec(middle)
    images = golden_recipe_batch(spec.input_shape)
    rewritten = Rewriter(onnx.load(middle), lambda: [images]).rewrite(Recipe(precision="int8"))
    made = middle.with_suffix(".int8.onnx")
    write_artifact(rewritten.proto, spec.replace(precision="int8", verification=None), made)
    return made


def times_as_fast(quick: tuple[Path, Precision], slow: tuple[Path, Precision], runtime: str, needed: float) -> float:
    """How many times as fast one artifact and precision is as another, one image on one thread.

    One thread: with more, a busy neighbour decides how well they keep pace.
    """
    with ExitStack() as stack:
        calls: dict[str, Callable[[], npt.NDArray[np.float32]]] = {}
        for name, (path, precision) in (("quick", quick), ("slow", slow)):
            opened = stack.enter_context(open_runtime(path, runtime, precision=precision, threads=1))
            spec = opened.spec
            image = golden_recipe_batch(spec.input_shape)[:1]
            calls[name] = functools.partial(infer_logits, opened, spec, image)
        truth = calls["slow"]()
        assert np.abs(calls["quick"]() - truth).max() < 0.1 * np.abs(truth).max()  # the same model
        return best_of(calls, "quick", "slow", needed)


def test_bf16_is_not_slower_than_fp32(middle: Path) -> None:
    if not has_native_bf16():
        pytest.skip("this processor has no bf16")
    assert times_as_fast((middle, "bf16"), (middle, "fp32"), "openvino", 1 / 1.2) >= 1 / 1.2


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_int8_beats_its_fp32_source(middle: Path, middle_int8: Path, runtime: str) -> None:
    """2.4 times as fast in both on an AVX-512 processor with VNNI."""
    if not has_any(INT8_PRODUCTS):
        pytest.skip("this processor multiplies no int8: int8 files are no faster there")
    assert times_as_fast((middle_int8, "fp32"), (middle, "fp32"), runtime, 1.5) >= 1.5
