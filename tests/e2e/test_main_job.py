"""The whole chain, as the demo runs it, on a part of the digits and for a few epochs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from vitrify import Classifier
from vitrify.artifacts import read_spec
from vitrify.cli.app import run

ROOT = Path(__file__).parent.parent.parent
SHAPE = ["--img-size", "16", "--model-kwargs", "patch_size=4", "depth=2", "embed_dim=64", "num_heads=2"]


def digits(folder: Path, *, keep: int) -> Path:
    """The example's image folder, thinned to every `keep`-th image of a class."""
    spec = importlib.util.spec_from_file_location("make_folder", ROOT / "examples" / "digits" / "make_folder.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(folder)
    for label in folder.glob("*/*"):
        for number, path in enumerate(sorted(label.iterdir())):
            if number % keep:
                path.unlink()
    return folder


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the chain has run: digits/, run/ and digits.onnx."""
    root = tmp_path_factory.mktemp("chain")
    data = digits(root / "digits", keep=3)
    train = ["train", str(data), "-o", str(root / "run"), "--init", "none", *SHAPE, "--epochs", "20", "--lr", "3e-3"]
    train += ["--batch-size", "32", "--no-hflip", "--crop-min", "0.9", "--color-jitter", "0", "--label-smoothing", "0"]
    assert run(train) == 0
    checkpoint = root / "run" / "best.safetensors"
    assert run(["export", str(checkpoint), "-o", str(root / "digits.onnx"), "--images", str(data / "val")]) == 0
    return root


def test_the_artifact_answers_as_the_checkpoint_and_better_than_chance(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, checkpoint = str(chain / "digits.onnx"), str(chain / "run" / "best.safetensors")
    held_out = str(chain / "digits" / "val")
    assert run(["eval", artifact, held_out, "--reference", checkpoint, "--precision", "fp32", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["count"] > 100
    assert result["top1"] > 0.5
    assert result["flips"] == []
    assert run(["verify", artifact, "--reference", checkpoint, "--images", held_out]) == 0


def test_the_spec_knows_where_it_comes_from(chain: Path) -> None:
    spec = read_spec(chain / "digits.onnx")
    assert spec.labels == tuple("0123456789")
    assert spec.input_shape == (3, 16, 16)
    assert spec.source.checkpoint == "best.safetensors"
    assert spec.preprocess == read_spec(chain / "run" / "best.safetensors").preprocess


def test_a_copy_elsewhere_is_all_one_needs(chain: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes((chain / "digits.onnx").read_bytes())
    three = sorted((chain / "digits" / "val" / "3").iterdir())
    with Classifier(copy) as classify:
        answers = [prediction.label for prediction in classify(three)]
    assert answers.count("3") > 0.3 * len(answers)  # a tenth by chance
