from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_score, recall_score, top_k_accuracy_score

from tests.conftest import LABELS, tiny_model, tiny_spec
from vitrify import Classifier
from vitrify.checkpoints import save_checkpoint
from vitrify.errors import DatasetError
from vitrify.verification import confusion_picture, evaluate_folder
from vitrify.verification.evaluation import OTHER, wilson_interval
from vitrify.workflows.export import onnx_from_checkpoint


def test_the_numbers_are_scikit_learns(artifact: Path, photos: Path) -> None:
    paths = sorted(photos.rglob("*.*g"))
    truth = np.asarray([LABELS.index(path.parent.name) for path in paths])
    with Classifier(artifact, precision="fp32") as classify:
        result = evaluate_folder(classify, photos)
        logits = np.stack([prediction.logits for prediction in classify(paths)])
    answers = logits.argmax(axis=1)
    assert result.count == len(paths) == sum(score.support for score in result.per_class)
    assert result.top1 == pytest.approx((truth == answers).mean())
    assert result.top5 == pytest.approx(top_k_accuracy_score(truth, logits, k=5))
    assert np.array_equal(result.confusion, confusion_matrix(truth, answers, labels=range(6)))
    recalls = recall_score(truth, answers, average=None, labels=range(6), zero_division=0)
    assert [score.recall for score in result.per_class] == pytest.approx(recalls)
    precisions = precision_score(truth, answers, average=None, labels=range(6), zero_division=0)
    assert [score.precision or 0.0 for score in result.per_class] == pytest.approx(precisions)
    assert result.failures == ()
    assert result.flips == ()


def test_flips_are_the_images_whose_answer_differs(artifact: Path, photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, tiny_model(seed=1), tiny_spec())
    paths = sorted(photos.rglob("*.*g"))
    with Classifier(artifact, precision="fp32") as classify:
        result = evaluate_folder(classify, photos, reference=other)
        mine = [prediction.label for prediction in classify(paths)]
    with Classifier(other) as classify:
        others = [prediction.label for prediction in classify(paths)]
    want = {str(path): (a, b) for path, a, b in zip(paths, mine, others, strict=True) if a != b}
    assert want
    assert {flip.path: (flip.answer, flip.reference) for flip in result.flips} == want
    assert all(flip.truth == Path(flip.path).parent.name for flip in result.flips)


def test_a_reference_with_the_same_weights_flips_nothing(artifact: Path, checkpoint: Path, photos: Path) -> None:
    with Classifier(artifact, precision="fp32") as classify:
        assert evaluate_folder(classify, photos, reference=checkpoint).flips == ()


def test_unreadable_images_are_listed_and_count_nowhere(artifact: Path, photos: Path, tmp_path: Path) -> None:
    root = shutil.copytree(photos, tmp_path / "photos")
    (root / "rose" / "text.jpg").write_text("hello")
    with Classifier(artifact) as classify:
        result = evaluate_folder(classify, root)
    assert result.count == 40
    assert [Path(path).name for path, _ in result.failures] == ["text.jpg"]


def test_a_folder_with_train_and_val_means_val(artifact: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "data" / "val")
    (tmp_path / "data" / "train" / "rose").mkdir(parents=True)
    with Classifier(artifact) as classify:
        assert evaluate_folder(classify, tmp_path / "data").count == 40


def test_answers_outside_the_folder_have_their_own_column(artifact: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "rose", tmp_path / "data" / "rose")
    with Classifier(artifact, precision="fp32") as classify:
        result = evaluate_folder(classify, tmp_path / "data")
        labels = [prediction.label for prediction in classify(sorted((photos / "rose").iterdir()))]
    right = labels.count("rose")
    assert result.labels == ("rose",)
    assert result.confusion == (((right, len(labels) - right),) if right < len(labels) else ((right,),))
    assert result.columns == (("rose", OTHER) if right < len(labels) else ("rose",))
    assert right < len(labels), "the case is about answers outside the folder"
    confusion_picture(result, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_an_unknown_class_is_an_error_with_the_likely_name(artifact: Path, photos: Path, tmp_path: Path) -> None:
    root = shutil.copytree(photos, tmp_path / "photos")
    (root / "rose").rename(root / "roses")
    with Classifier(artifact) as classify, pytest.raises(DatasetError, match="did you mean rose"):
        evaluate_folder(classify, root)


def test_a_folder_of_nothing_readable(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "rose").mkdir()
    (tmp_path / "rose" / "a.jpg").write_text("hello")
    with Classifier(artifact) as classify, pytest.raises(DatasetError, match="could be read"):
        evaluate_folder(classify, tmp_path)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # statsmodels.stats.proportion.proportion_confint(successes, trials, method="wilson")
    [
        (0, 10, 0.0, 0.27753279),
        (10, 10, 0.72246721, 1.0),
        (98, 100, 0.93000979, 0.99449847),
        (1, 3, 0.06149194, 0.79234504),
    ],
)
def test_wilson_interval(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_the_confusion_picture_is_a_png(artifact: Path, photos: Path, tmp_path: Path) -> None:
    with Classifier(artifact) as classify:
        result = evaluate_folder(classify, photos)
    confusion_picture(result, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 200


def test_five_classes_or_fewer_have_no_top5(tmp_path: Path, photos: Path) -> None:
    save_checkpoint(tmp_path / "two.safetensors", tiny_model(classes=2), tiny_spec(("rose", "weed")))
    onnx_from_checkpoint(tmp_path / "two.safetensors", tmp_path / "two.onnx")
    for name in ("rose", "weed"):
        shutil.copytree(photos / name, tmp_path / "data" / name)
    with Classifier(tmp_path / "two.onnx") as classify:
        assert evaluate_folder(classify, tmp_path / "data").top5 is None
