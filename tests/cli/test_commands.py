"""The command line as a user meets it: real arguments, stdout, stderr and exit codes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LABELS
from tests.verification.changed import saved
from vitrify.cli.app import COMMANDS, run
from vitrify.errors import DatasetError
from vitrify.training import TrainConfig
from vitrify.workflows import train as train_workflow
from vitrify.workflows.train import TrainResult

Captured = pytest.CaptureFixture[str]


def test_predict_as_jsonl(artifact: Path, photos: Path, capsys: Captured) -> None:
    assert run(["predict", str(artifact), str(photos / "rose"), "--json", "-k", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in sorted((photos / "rose").iterdir())]
    for line in lines:
        assert line["label"] in LABELS
        assert len(line["top"]) == 2
        assert line["top"][0] == {
            "label": line["label"],
            "index": LABELS.index(line["label"]),
            "probability": line["probability"],
        }


def test_predict_goes_on_past_a_bad_image_and_says_so(
    artifact: Path, photos: Path, tmp_path: Path, capsys: Captured
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    good = str(next((photos / "rose").iterdir()))
    assert run(["predict", str(artifact), good, str(text), "gone.png", good, "--format", "csv"]) == 2
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    assert "not an image" in rows[1]["error"]
    assert "No such file" in rows[2]["error"]
    assert rows[0]["label"] == rows[3]["label"] in LABELS


def test_predict_as_a_table(artifact: Path, photos: Path, capsys: Captured) -> None:
    assert run(["predict", str(artifact), f"{photos}/rose/*"]) == 0
    assert "probability" in capsys.readouterr().out


def test_predict_reads_standard_input(artifact: Path, photos: Path) -> None:
    path = next((photos / "rose").iterdir())
    command = [sys.executable, "-m", "vitrify", "predict", str(artifact), "-", "--json"]
    for fed in (f"{path}\n".encode(), path.read_bytes()):
        done = subprocess.run(command, input=fed, capture_output=True, check=True)
        assert json.loads(done.stdout)["label"] in LABELS


def test_verify(artifact: Path, checkpoint: Path, photos: Path, capsys: Captured) -> None:
    assert run(["verify", str(artifact)]) == 0
    assert "passed" in capsys.readouterr().out
    assert run(["verify", str(artifact), "--reference", str(checkpoint), "--images", str(photos), "--json"]) == 0
    assert all(check["passed"] for check in json.loads(capsys.readouterr().out)["checks"])


def test_verify_fails_with_one(artifact: Path, tmp_path: Path, capsys: Captured) -> None:
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(artifact)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "head.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))
    saved(model, tmp_path / "bad.onnx")
    assert run(["verify", str(tmp_path / "bad.onnx")]) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "hint:" in captured.err


def test_verify_block_by_block(artifact: Path, photos: Path, tmp_path: Path, capsys: Captured) -> None:
    picture = tmp_path / "drift.png"
    words = ["verify", str(artifact), "--layers", "--images", str(photos), "--max-images", "5"]
    assert run([*words, "--plot", str(picture)]) == 0
    shown = capsys.readouterr().out
    for word in ("blocks.0", "blocks.1", "openvino fp32 against", "5 images inputs"):
        assert word in shown
    assert picture.exists()
    assert run([*words, "--tolerance", "1e-12", "--json"]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)  # one document
    assert not report["passed"]
    assert report["comparisons"][0]["first"] in ("patch_embed", "embedding", "blocks.0")
    assert run([*words, "--tolerance", "1e-12"]) == 1
    captured = capsys.readouterr()
    assert "FIRST" in captured.out
    assert "leaves" in captured.err
    assert "hint:" in captured.err


def test_eval(artifact: Path, photos: Path, tmp_path: Path, capsys: Captured) -> None:
    picture = tmp_path / "confusion.png"
    assert run(["eval", str(artifact), str(photos), "--json", "--confusion", str(picture)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["count"] == 40
    assert picture.exists()
    assert run(["eval", str(artifact), str(photos)]) == 0
    assert "95% interval" in capsys.readouterr().out
    assert run(["eval", str(artifact), str(photos), "--min-top1", "1.0"]) == 1
    assert "below min_top1" in capsys.readouterr().err
    assert run(["eval", str(artifact), str(photos), "--min-top1", "97"]) == 2
    assert run(["eval", str(artifact), str(photos), "--confusion", str(tmp_path / "confusion.txt")]) == 2


def test_inspect(artifact: Path, checkpoint: Path, capsys: Captured) -> None:
    assert run(["inspect", str(artifact)]) == 0
    shown = capsys.readouterr().out
    for words in ("[B, 17, 64]", "vit_base_patch16_224", "blocks.1", "daisy"):
        assert words in shown
    assert run(["inspect", str(artifact), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"]["opset"] == 18
    assert run(["inspect", str(checkpoint)]) == 0


def test_doctor(capsys: Captured) -> None:
    assert run(["doctor", "--json"]) == 0
    assert {"name", "state", "detail", "hint"} == set(json.loads(capsys.readouterr().out)[0])
    assert run(["doctor"]) == 0
    assert "onnxruntime" in capsys.readouterr().out


def test_export(checkpoint: Path, photos: Path, tmp_path: Path, capsys: Captured) -> None:
    target = tmp_path / "m.onnx"
    assert run(["export", str(checkpoint), "-o", str(target), "--images", str(photos), "--max-images", "5"]) == 0
    shown = capsys.readouterr().out
    assert "by dynamo" in shown
    assert "probabilities of" in shown
    assert target.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predict"], "ARTIFACT"),
        (["predict", "missing.onnx", "a.jpg"], "no such file"),
        (["predict", "{artifact}", "a.jpg", "--runtime", "tensorflow"], "no runtime is called"),
        (["predict", "{artifact}", "a.jpg", "--format", "xml"], "--format"),
        (["predict", "{artifact}", "a.jpg", "--batch-size", "0"], "not positive"),
        (["eval", "{artifact}", "no/such/folder"], "no/such/folder"),
        (["verify", "{artifact}", "--nonsense"], "--nonsense"),
        (["verify", "{artifact}", "--tolerance", "0.1"], "add --layers"),
        (["verify", "{artifact}", "--layers", "--plot", "drift.svg"], "PNG"),
        (["verify", "{artifact}", "--layers", "--tolerance", "-1"], "--tolerance"),
        (["verify", "{artifact}", "--layers", "--reference", "gone.onnx"], "no such file"),
        (["verify", "{artifact}", "--max-images", "0"], "not positive"),
        (["export", "missing.pth", "-o", "m.onnx"], "missing.pth"),
        (["inspect", "{folder}"], "directory"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_users_mistake_is_two_lines_not_a_traceback(
    arguments: list[str], says: str, artifact: Path, tmp_path: Path, capsys: Captured
) -> None:
    filled = [argument.format(artifact=artifact, folder=tmp_path) for argument in arguments]
    assert run(filled) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_errors_are_json_for_machines(capsys: Captured) -> None:
    assert run(["inspect", "missing.onnx", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "ArtifactError"
    assert "no such file" in error["message"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name: str, capsys: Captured) -> None:
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"vitrify {name}" in shown
    assert "Example:" in shown


def test_the_overview_says_what_each_command_does(capsys: Captured) -> None:
    assert run(["--help"]) == 0
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    for name in COMMANDS:
        assert any(line.startswith(name) and len(line) > len(name) + 15 for line in lines), name


def test_model_kwargs_are_words(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def remember(data: Path, output: Path, config: TrainConfig, progress: object) -> TrainResult:
        seen.append((data, output, config))
        raise DatasetError("far enough")

    monkeypatch.setattr(train_workflow, "checkpoint_from_images", remember)
    words = [
        "train",
        "D",
        "-o",
        "R",
        "--model-kwargs",
        "patch_size=8",
        "class_token=false",
        "pool=avg",
        "--epochs",
        "3",
    ]
    assert run(words) == 2
    data, output, config = seen[0]
    assert (data, output, config.epochs) == (Path("D"), Path("R"), 3)
    assert config.model_kwargs == {"patch_size": 8, "class_token": False, "pool": "avg"}
    assert run(["train", "D", "-o", "R", "--model-kwargs", "depth"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err


def test_export_as_json(checkpoint: Path, tmp_path: Path, capsys: Captured) -> None:
    assert run(["export", str(checkpoint), "-o", str(tmp_path / "m.onnx"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["path"] == str(tmp_path / "m.onnx")
    assert result["exporter"] == "dynamo"


def test_export_to_a_full_disk_blames_the_disk(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.onnx"
    target.write_bytes(b"old")
    program = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
from vitrify.cli.app import run
sys.exit(run(["export", {str(checkpoint)!r}, "-o", {str(target)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr
    assert "torchscript" not in done.stderr
    assert target.read_bytes() == b"old"


def test_a_full_standard_output(artifact: Path, photos: Path) -> None:
    for command in ("predict", "inspect"):
        arguments = [command, str(artifact), *([str(photos)] if command == "predict" else []), "--json"]
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "vitrify", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 2
        assert "cannot write the output" in done.stderr
        assert "Traceback" not in done.stderr


def test_names_from_print0_and_an_empty_standard_input(artifact: Path, photos: Path) -> None:
    command = [sys.executable, "-m", "vitrify", "predict", str(artifact), "-", "--json"]
    names = [str(path) for path in sorted((photos / "rose").iterdir())]
    done = subprocess.run(command, input="\0".join(names).encode() + b"\0", capture_output=True, check=True)
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == names
    done = subprocess.run(command, input=b"", capture_output=True, check=False)
    assert done.returncode == 2
    assert b"standard input is empty" in done.stderr


def test_an_unknown_option_is_no_image(artifact: Path, photos: Path, capsys: Captured) -> None:
    assert run(["predict", str(artifact), str(photos), "--foo"]) == 2
    assert "--foo" in capsys.readouterr().err


def test_a_graph_and_a_spec_of_different_models(artifact: Path, photos: Path, tmp_path: Path, capsys: Captured) -> None:
    import onnx

    from vitrify.artifacts import read_spec
    from vitrify.graphs import embed_spec

    model = onnx.load(artifact)
    embed_spec(model, read_spec(artifact).replace(labels=LABELS[:-1], golden=()))
    onnx.save(model, tmp_path / "other.onnx")
    for arguments in (["predict", str(tmp_path / "other.onnx"), str(photos)], ["verify", str(tmp_path / "other.onnx")]):
        assert run(arguments) == 2
        assert "disagree" in capsys.readouterr().err
