from __future__ import annotations

import concurrent.futures
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import LABELS, tiny_model
from vitrify import Classifier
from vitrify.classifier import Failure, Prediction
from vitrify.errors import ArtifactError, ImageError, OptionError, SpecMissingError
from vitrify.pixels import ImageSource, preprocess
from vitrify.runtimes import has_native_bf16
from vitrify.workflows.export import ExportResult


@pytest.fixture(scope="module")
def paths(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.*g"))


def test_answers_are_pytorchs(artifact: Path, paths: list[Path]) -> None:
    with Classifier(artifact, precision="fp32") as classify:
        predictions = classify(paths)
        tensors = preprocess(paths, classify.spec.preprocess)
    with torch.inference_mode():
        want = tiny_model()(torch.from_numpy(tensors)).double().softmax(dim=1).numpy()
    assert [prediction.source for prediction in predictions] == [str(path) for path in paths]
    for prediction, row in zip(predictions, want, strict=True):
        assert prediction.label == LABELS[row.argmax()]
        assert prediction.probability == pytest.approx(row.max(), abs=1e-5)
        assert [score.label for score in prediction.top] == [LABELS[i] for i in np.argsort(-row)[:5]]
        assert [score.probability for score in prediction.top] == pytest.approx(np.sort(row)[::-1][:5], abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_do_not_change_answers(artifact: Path, paths: list[Path], batch_size: int) -> None:
    with Classifier(artifact, precision="fp32", batch_size=batch_size) as classify:
        got = np.stack([prediction.logits for prediction in classify(paths)])
    with Classifier(artifact, precision="fp32") as classify:
        want = np.stack([classify(path)[0].logits for path in paths])
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5)


def test_one_image_of_any_kind(artifact: Path, paths: list[Path]) -> None:
    png = next(path for path in paths if path.suffix == ".png")
    image = Image.open(png)
    kinds: list[ImageSource] = [png, str(png), png.read_bytes(), image, np.asarray(image)]
    with Classifier(artifact) as classify:
        labels = {classify(kind)[0].label for kind in kinds}
        assert len(labels) == 1
        assert [prediction.source for prediction in classify([image, png])] == ["image 0", str(png)]
        assert classify([]) == []


def test_a_bad_image_stops_a_call_but_not_a_stream(artifact: Path, paths: list[Path]) -> None:
    mixed: list[ImageSource] = [paths[0], b"no image", paths[1], "missing.jpg", paths[2]]
    with Classifier(artifact, batch_size=2) as classify:
        with pytest.raises(ImageError):
            classify(mixed)
        answers = list(classify.stream(mixed))
    assert [type(answer) for answer in answers] == [Prediction, Failure, Prediction, Failure, Prediction]
    assert [answer.source for answer in answers] == [
        str(paths[0]),
        "image 1",
        str(paths[1]),
        "missing.jpg",
        str(paths[2]),
    ]


def test_a_stream_reads_ahead_by_two_batches_only(artifact: Path, paths: list[Path]) -> None:
    taken = itertools.count()
    endless = (paths[0] for _ in iter(lambda: next(taken), -1))
    with Classifier(artifact, batch_size=4) as classify:
        for _ in itertools.islice(classify.stream(endless), 5):
            pass
    assert next(taken) <= 4 + 2 * 4 + 1


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_change_answers(artifact: Path, paths: list[Path], threads: int) -> None:
    large = io.BytesIO()  # which several threads share where it is alone
    Image.effect_noise((1500, 1100), 90).convert("RGB").save(large, "jpeg")
    images: list[ImageSource] = [*paths[:5], large.getvalue()]
    with Classifier(artifact, runtime="onnxruntime", threads=threads, batch_size=5) as classify:
        got = classify(images)
        tensors = preprocess(images, classify.spec.preprocess, threads=1)
        want = [*classify.logits(tensors[:5]), *classify.logits(tensors[5:])]
    np.testing.assert_array_equal([answer.logits for answer in got], want)


def test_batches_are_prepared_into_one_buffer(artifact: Path, paths: list[Path]) -> None:
    with Classifier(artifact, batch_size=4) as classify:
        alone = [classify(paths[:4]) for _ in range(3)]
        assert len(classify._idle) == 1
        list(classify.stream(itertools.islice(itertools.cycle(paths), 40)))
        assert len(classify._idle) <= 2  # of the batch in the runtime and the one that is prepared
    for answers in alone[1:]:
        np.testing.assert_array_equal([a.logits for a in answers], [a.logits for a in alone[0]])


def test_a_bad_image_leaves_its_batchs_others_as_they_are(artifact: Path, paths: list[Path]) -> None:
    half = paths[0].read_bytes()
    damaged = half[: len(half) // 2]
    with Classifier(artifact, batch_size=4) as classify:
        want = classify(paths[:6])  # leaves other tensors in the buffer
        got = list(classify.stream([damaged, paths[0], "missing.jpg", *paths[1:3], damaged, *paths[3:6]]))
    assert [type(answer) for answer in got].count(Failure) == 3
    for one, other in zip([answer for answer in got if isinstance(answer, Prediction)], want, strict=True):
        assert one.source == other.source
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-5, rtol=1e-5)


def test_many_threads_share_a_classifier(artifact: Path, paths: list[Path]) -> None:
    with Classifier(artifact) as classify, concurrent.futures.ThreadPoolExecutor(6) as pool:
        want = [prediction.label for prediction in classify(paths)]
        got = list(pool.map(lambda path: classify(path)[0].label, paths))
    assert got == want


@pytest.mark.skipif(not has_native_bf16(), reason="this processor has no native bf16")
def test_bf16_only_where_the_record_allows_it(exported: ExportResult) -> None:
    allowed = exported.verification.allows("openvino", "bf16")
    with Classifier(exported.path) as classify:
        assert classify.runtime.options.precision == ("bf16" if allowed else "fp32")
    with Classifier(exported.path, precision="fp32") as classify:
        assert classify.runtime.options.precision == "fp32"
    with Classifier(exported.path, runtime="onnxruntime") as classify:
        assert classify.runtime.options.precision == "fp32"


def test_a_checkpoint_is_classified_with_by_pytorch(checkpoint: Path, artifact: Path, paths: list[Path]) -> None:
    with Classifier(checkpoint) as torch_, Classifier(artifact, precision="fp32") as onnx:
        assert torch_.runtime.name == "torch"
        one, other = torch_(paths), onnx(paths)
    np.testing.assert_allclose([p.logits for p in one], [p.logits for p in other], atol=1e-4, rtol=1e-3)


def test_options_that_cannot_be(artifact: Path, tmp_path: Path) -> None:
    for options in ({"batch_size": 0}, {"top_k": 0}, {"threads": -1}):
        with pytest.raises(OptionError, match="not positive"):
            Classifier(artifact, **options)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="cannot run in bf16"):
        Classifier(artifact, runtime="onnxruntime", precision="bf16")
    with pytest.raises(ArtifactError, match="no such file"):
        Classifier(tmp_path / "no.onnx")


def test_an_onnx_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    torch.onnx.export(torch.nn.Identity().eval(), (torch.zeros(1, 3, 4, 4),), str(path), dynamo=True, verbose=False)
    with pytest.raises(SpecMissingError, match="vitrify export"):
        Classifier(path)


def test_an_encoded_image_in_memory_needs_no_file(artifact: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(buffer, "jpeg")
    with Classifier(artifact, top_k=2) as classify:
        assert len(classify(buffer.getvalue())[0].top) == 2
