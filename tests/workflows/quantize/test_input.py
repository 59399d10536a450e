"""What a search is refused for, before anything is measured, and what it says about the images that judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.precision.digits import Digits
from tests.workflows.quantize.quantizing import config, quantize
from vitrify.errors import DatasetError, MissingExtraError, OptionError, StorageError
from vitrify.precision import Recipe
from vitrify.runtimes import RuntimeRow
from vitrify.workflows.quantize import workflow
from vitrify.workflows.quantize.limits import Limits
from vitrify.workflows.quantize.workflow import (
    QuantizeResult,
    judging_notes,
    labelled_images,
    quantized_from_onnx,
    targets_here,
)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"calibration": ()}, "too few calibration images"),
        ({"output": "out.engine"}, "cannot quantize"),
        ({"output": "SOURCE"}, "replace its own source"),
        ({"labels": (1, 2)}, "differ in number"),
        ({"judged": 31}, "too few images to judge accuracy on"),
        ({"output": "."}, "cannot quantize"),
        ({"source": "INT8"}, "a lower precision already"),
    ],
)
def test_bad_input(trained: Digits, int8: QuantizeResult, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    assert int8.path is not None
    source = int8.path if change.get("source") else trained.onnx
    output = trained.onnx if change.get("output") == "SOURCE" else tmp_path / change.get("output", "out.onnx")
    before = trained.onnx.read_bytes()
    with pytest.raises(OptionError, match=says):
        quantized_from_onnx(
            source,
            output,
            calibration=change.get("calibration", trained.calibration),
            config=config(),
            images=trained.held_out[: change.get("judged")],
            labels=change.get("labels", trained.labels[: change.get("judged")]),
        )
    assert trained.onnx.read_bytes() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "limits",
    [{"max_drop": -0.1}, {"min_agreement": 1.5}, {"min_speedup": 0.5}, {"confidence": 0.4}, {"confidence": 1.0}],
)
def test_limits_that_cannot_be(limits: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        Limits(**limits)


def test_labels_are_matched_by_name(trained: Digits, tmp_path: Path) -> None:
    images, labels = labelled_images(trained.onnx, trained.folder, 50)
    assert len(images) == len(labels) == 50
    assert [Path(str(image)).parent.name for image in images] == [str(label) for label in labels]
    (tmp_path / "eleven").mkdir()
    (tmp_path / "eleven" / "a.png").write_bytes(Path(str(images[0])).read_bytes())
    with pytest.raises(DatasetError, match="a class that"):
        labelled_images(trained.onnx, tmp_path, 50)


@pytest.fixture
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: Any, **__: Any) -> None:
        raise AssertionError("measured before it was refused")

    monkeypatch.setattr(workflow, "Judge", measured)


@pytest.mark.usefixtures("nothing_measured")
def test_an_output_that_cannot_be_written_is_told_before_the_search(trained: Digits, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="cannot write") as caught:
        quantize(trained, trained.onnx, tmp_path / "file" / "out.onnx", config())
    assert caught.value.hint
    with pytest.raises(AssertionError, match="measured"):  # in a folder that is not there yet, it can
        quantize(trained, trained.onnx, tmp_path / "new" / "folder" / "out.onnx", config())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def without(monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    monkeypatch.setattr(RuntimeRow, "installed", property(lambda row: row.name != runtime))


@pytest.mark.usefixtures("nothing_measured")
@pytest.mark.parametrize(
    ("missing", "options"),
    [
        ("openvino", {"precision": "bf16"}),
        ("openvino", {"around": "bf16"}),
        ("openvino", {"runtime": "openvino"}),
        ("onnxruntime", {}),
    ],
)
def test_a_runtime_that_is_missing_is_told_before_the_search(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, options: dict[str, Any]
) -> None:
    without(monkeypatch, missing)
    with pytest.raises(MissingExtraError, match=missing) as caught:
        quantize(trained, trained.onnx, tmp_path / "out.onnx", config(**options))
    assert caught.value.hint == "pip install vitrify"


def test_without_openvino_bf16_is_left_out(trained: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(precision="int8")
    assert targets_here(trained.onnx, recipe, fallback=True, runtime="auto") == (("int8", "fp16", "bf16"), [])
    without(monkeypatch, "openvino")
    targets, notes = targets_here(trained.onnx, recipe, fallback=True, runtime="auto")
    assert targets == ("int8", "fp16")
    assert "bf16 was not tried" in notes[0]
    assert targets_here(trained.onnx, recipe, fallback=False, runtime="auto") == (("int8",), [])


def test_images_that_were_calibrated_on_are_noted(tmp_path: Path) -> None:
    calibration = [tmp_path / f"{number}.png" for number in range(200)]
    others = [str(tmp_path / f"{number}.png") for number in range(190, 400)]
    assert judging_notes(calibration, ()) == [
        "accuracy was judged on the calibration images themselves, which flatters: give others"
    ]
    assert judging_notes(calibration, others) == ["10 of the 210 judged images were calibrated on too, which flatters"]
