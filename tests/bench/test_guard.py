"""Speed that must not be lost, as ratios within one run; wall clock is never compared with a stored number."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrify.bench import Turns, take_turns
from vitrify.checkpoints import save_checkpoint
from vitrify.pixels import preprocess
from vitrify.runtimes import RuntimeOptions, has_native_bf16, infer_logits, open_runtime
from vitrify.spec import InputSpec, ModelSpec, Precision, Preprocess, Source, golden_recipe_batch
from vitrify.workflows.export import onnx_from_checkpoint

pytestmark = pytest.mark.speed
MEAN = STD = (0.5, 0.5, 0.5)
PIXELS = Preprocess(
    resize_rule="shortest", resize_height=248, resize_width=248, crop_height=224, crop_width=224,
    interpolation="bicubic", mean=MEAN, std=STD,
)  # fmt: skip


def best_of(contenders: dict[str, Callable[[], object]], name: str, over: str, needed: float) -> float:
    """The median ratio; a second and a third run where a busy neighbour spoiled the one before."""
    found = 0.0
    for _ in range(3):
        turns: Turns = take_turns(contenders, rounds=15, budget_s=10.0, settling_calls=1)
        found = max(found, turns.speedup(name, over)[1])
        if found >= needed:
            break
    return found


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
    assert best_of({"ours": ours, "pillow": pillow}, "ours", "pillow", 1.5) >= 1.5


@pytest.fixture(scope="module")
def middle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six blocks of ViT-S at 224 pixels, random weights, in fp32."""
    import timm
    import torch

    folder = tmp_path_factory.mktemp("middle")
    torch.manual_seed(0)
    kwargs: dict[str, Any] = {"depth": 6, "embed_dim": 384, "num_heads": 6}
    model = timm.create_model("vit_base_patch16_224", num_classes=10, **kwargs).eval()
    spec = ModelSpec(
        input=InputSpec(height=224, width=224), preprocess=PIXELS, labels=tuple("0123456789"),
        source=Source(architecture="vit_base_patch16_224", model_kwargs=dict(kwargs), created_by="test"),
    )  # fmt: skip
    save_checkpoint(folder / "middle.safetensors", model, spec)
    return onnx_from_checkpoint(folder / "middle.safetensors", folder / "middle.onnx").path


def test_bf16_is_not_slower_than_fp32(middle: Path) -> None:
    if not has_native_bf16():
        pytest.skip("this processor has no bf16")
    contenders: dict[str, Callable[[], object]] = {}
    with ExitStack() as stack:
        precisions: tuple[Precision, ...] = ("fp32", "bf16")
        for precision in precisions:
            options = RuntimeOptions(precision=precision)
            runtime = stack.enter_context(open_runtime(middle, "openvino", options))
            spec = runtime.spec
            given = golden_recipe_batch(spec.input_shape)[:1]
            contenders[precision] = lambda runtime=runtime, given=given, spec=spec: infer_logits(runtime, spec, given)  # type: ignore[misc]
        assert best_of(contenders, "bf16", "fp32", 1 / 1.2) >= 1 / 1.2
