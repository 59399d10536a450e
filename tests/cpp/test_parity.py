"""Python and C++ give the same tensors, byte for byte, and the same answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.cpp.conftest import GOLDEN
from tests.cpp.library import BAD_IMAGE, Handle, Library, StatusError
from vitrify.artifacts import read_spec
from vitrify.classifier import Classifier, probabilities
from vitrify.errors import ImageError
from vitrify.pixels import preprocess
from vitrify.runtimes import has_native_bf16
from vitrify.spec import SPEC_KEY, ModelSpec, golden_batch

IMAGES = sorted((GOLDEN / "images").iterdir())
HOSTILE = sorted((GOLDEN / "hostile").iterdir())


def with_spec(path: Path, spec: ModelSpec) -> Path:
    """A copy of tiny.onnx that carries another spec."""
    model = onnx.load(GOLDEN / "tiny.onnx")
    onnx.helper.set_model_props(model, {SPEC_KEY: spec.replace(file_sha256="").to_json()})
    onnx.save(model, path)
    return path


def variants() -> dict[str, ModelSpec]:
    spec = read_spec(GOLDEN / "tiny.onnx")

    def prepared(**changes: Any) -> ModelSpec:
        return spec.replace(preprocess=replace(spec.preprocess, **changes))

    return {
        "as made": spec,
        "squashed": prepared(resize_rule="squash", interpolation="lanczos"),
        "padded": prepared(
            resize_rule="longest", resize_height=24, resize_width=30, interpolation="bilinear", fill=(7, 8, 9)
        ),
        "shortest of an oblong": prepared(resize_height=40, resize_width=33, interpolation="hamming"),
        "several labels": spec.replace(output=replace(spec.output, task="multi-label")),
    }


@pytest.mark.parametrize("name", list(variants()))
def test_tensors_and_probabilities_are_pythons(library: Library, tmp_path: Path, name: str) -> None:
    spec = variants()[name]
    path = with_spec(tmp_path / "model.onnx", spec)
    with (
        library.load(path, precision=b"fp32") as native,
        Classifier(path, precision="fp32", runtime="openvino") as ours,
    ):
        assert native.labels == spec.labels
        for image in IMAGES:
            data = image.read_bytes()
            tensor = preprocess([data], spec.preprocess)
            assert native.preprocess(data).tobytes() == tensor.tobytes(), image.name
            expected = dict(zip(spec.labels, probabilities(ours.logits(tensor), spec)[0], strict=True))
            for answer in (native.classify(data), native.classify(str(image))):
                assert answer.keys() == expected.keys()
                assert all(abs(answer[label] - expected[label]) <= 1e-6 for label in expected), image.name
                assert list(answer.values()) == sorted(answer.values(), reverse=True)


def test_an_exported_model_and_its_photos(library: Library, artifact: Path, photos: Path) -> None:
    images = sorted(photos.rglob("*.*g"))
    with library.load(artifact, precision=b"fp32") as native, Classifier(artifact, precision="fp32") as ours:
        for path, prediction in zip(images, ours(images), strict=True):
            answer = native.classify(str(path))
            assert list(answer)[:5] == [score.label for score in prediction.top]
            assert all(abs(answer[score.label] - score.probability) <= 1e-6 for score in prediction.top)
        assert native.verify() < 1e-4


def test_pixels_in_memory(library: Library) -> None:
    rng = np.random.default_rng(0)
    spec = read_spec(GOLDEN / "tiny.onnx")
    with library.load(GOLDEN / "tiny.onnx", precision=b"fp32") as native:
        for _ in range(20):
            pixels = rng.integers(0, 256, (*rng.integers(1, 90, 2), 3), dtype=np.uint8)
            logits = native.infer(preprocess([pixels], spec.preprocess))
            expected = sorted(probabilities(logits, spec)[0], reverse=True)
            assert np.allclose(list(native.classify(pixels).values()), expected, rtol=0, atol=1e-12)


def test_batches_of_any_size(library: Library) -> None:
    spec = read_spec(GOLDEN / "tiny.onnx")
    rng = np.random.default_rng(1)
    with (
        library.load(GOLDEN / "tiny.onnx", precision=b"fp32") as native,
        Classifier(GOLDEN / "tiny.onnx", precision="fp32", runtime="onnxruntime") as other,
    ):
        assert native.infer(golden_batch(spec)).shape == (len(spec.golden), len(spec.labels))
        for batch in (1, 2, 7, 33):
            tensors = rng.standard_normal((batch, *spec.input_shape), dtype=np.float32)
            assert np.allclose(native.infer(tensors), other.logits(tensors), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.name)
def test_what_python_refuses_is_refused(library: Library, path: Path) -> None:
    data = path.read_bytes()
    spec = read_spec(GOLDEN / "tiny.onnx")
    with library.load(GOLDEN / "tiny.onnx") as native:
        with pytest.raises(ImageError):
            preprocess([data], spec.preprocess)
        with pytest.raises(StatusError) as refused:
            native.classify(data or b"\0")
        assert refused.value.status == BAD_IMAGE
        with pytest.raises(StatusError, match=path.name):
            native.classify(str(path))


def test_the_automatic_precision_is_pythons(library: Library, tmp_path: Path) -> None:
    """Where the record allows bf16 and the processor has it, both take it; where it does not, neither does."""
    spec = read_spec(GOLDEN / "tiny.onnx")
    assert spec.verification is not None
    if not has_native_bf16():
        pytest.skip("this processor does not multiply bf16")
    tensors = np.random.default_rng(2).standard_normal((4, *spec.input_shape), dtype=np.float32)
    for passed in (True, False):
        checks = tuple(
            replace(check, passed=passed) if check.precision == "bf16" else check for check in spec.verification.checks
        )
        record = replace(spec.verification, checks=checks)
        path = with_spec(tmp_path / f"{passed}.onnx", spec.replace(verification=record))
        with library.load(path) as native, Classifier(path, runtime="openvino") as ours:
            assert ours.runtime.options.precision == ("bf16" if passed else "fp32")
            assert np.allclose(native.infer(tensors), ours.logits(tensors), rtol=0, atol=1e-6)


def test_a_compiled_network_is_kept(library: Library, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    answers = []
    for _ in range(2):
        with library.load(tiny, cache_folder=bytes(folder), precision=b"fp32") as native:
            answers.append(native.classify(str(IMAGES[0])))
    assert answers[0] == answers[1]
    assert list(folder.iterdir())
    # Another network under the same name at once must not get the answers of the first.
    model = onnx.load(tiny)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "head.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias)[::-1].copy(), bias.name))
    onnx.save(model, tiny)
    with library.load(tiny, cache_folder=bytes(folder), precision=b"fp32", self_test=b"never") as native:
        assert native.classify(str(IMAGES[0])) != answers[0]


def test_handles_are_independent(library: Library) -> None:
    handles: list[Handle] = [library.load(GOLDEN / "tiny.onnx") for _ in range(3)]
    for handle in handles:
        with handle:
            assert handle.classify(str(IMAGES[0])) == handles[-1].classify(str(IMAGES[0]))
