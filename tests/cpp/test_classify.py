"""vitrify-classify as a user meets it, beside `vitrify predict`."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cpp.conftest import GOLDEN
from tests.precision.digits import Digits
from vitrify.cli.app import run
from vitrify.pixels import IMAGE_SUFFIXES

TINY = str(GOLDEN / "tiny.onnx")
IMAGE = str(GOLDEN / "images" / "rgb.jpg")


def classify(program: Path, *arguments: str | Path, stdin: bytes = b"", code: int = 0) -> tuple[str, str]:
    done = subprocess.run([program, *map(str, arguments)], input=stdin, capture_output=True, check=False)
    assert done.returncode == code, done
    return done.stdout.decode(), done.stderr.decode()


def test_json_lines_are_pythons(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(GOLDEN / "images"), str(GOLDEN / "hostile"), "gone.png"]
    assert run(["predict", TINY, *names, "--json", "--runtime", "openvino", "--precision", "fp32"]) == 2
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    out, _ = classify(program, TINY, *names, "--json", "--precision", "fp32", code=2)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["image"] for answer in answers] == [answer["image"] for answer in expected]
    for answer, other in zip(answers, expected, strict=True):
        assert list(answer) == list(other)
        if "error" in answer:
            # Python has a word of Pillow's where the file is of no kind that the core reads.
            assert answer["error"] == other["error"] or answer["error"].startswith("not an image")
            continue
        assert [score["label"] for score in answer["top"]] == [score["label"] for score in other["top"]]
        for mine, theirs in zip(answer["top"], other["top"], strict=True):
            assert mine["index"] == theirs["index"]
            assert abs(mine["probability"] - theirs["probability"]) <= 1e-6


def test_the_table(program: Path) -> None:
    out, _ = classify(program, TINY, IMAGE, "-k", "2")
    header, line, row = out.splitlines()
    assert header.split() == ["image", "label", "probability", "others"]
    assert set(line.strip()) == {"─"}
    assert row.split()[0] == IMAGE


def test_columns_line_up_whatever_the_labels(program: Path) -> None:
    out, _ = classify(program, TINY, GOLDEN / "images", "-k", "1")
    header, _, *rows = out.splitlines()
    assert any("バラ" in row for row in rows)
    column = header.index("probability")
    for row in rows:
        before = re.sub(r"(?<=  )0\.\d{4}$", "", row)
        # Each of these characters takes two columns of a terminal.
        assert sum(2 if ord(letter) > 0x3000 else 1 for letter in before) == column, row


def test_a_folder_is_searched_as_python_does(program: Path, tmp_path: Path) -> None:
    names = [f"b/{number}{suffix}" for number, suffix in enumerate(IMAGE_SUFFIXES)]
    for name in (*names, "b/9.PNG", "a.jpg", "notes.txt", "a.tif", "a.gif", ".hidden.jpg", "with\nbreak.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(Path(IMAGE).read_bytes())
    out, _ = classify(program, TINY, tmp_path, "--json")
    found = [json.loads(line)["image"] for line in out.splitlines()]
    assert found == [str(p) for p in sorted(tmp_path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]


def test_standard_input(program: Path) -> None:
    by_name, _ = classify(program, TINY, IMAGE, "--json")
    for fed in (f"{IMAGE}\n\n".encode(), f"{IMAGE}\r\n".encode(), f"{IMAGE}\0".encode()):
        assert classify(program, TINY, "-", "--json", stdin=fed)[0] == by_name
    out, _ = classify(program, TINY, "-", "--json", stdin=Path(IMAGE).read_bytes())
    assert json.loads(out) == {**json.loads(by_name), "image": "image 0"}
    _, err = classify(program, TINY, "-", code=2)
    assert "standard input is empty" in err


def test_verify(program: Path) -> None:
    out, _ = classify(program, TINY, "--verify", "--precision", "fp32")
    assert re.match(r"openvino [\d.]+ fp32: passed, 6 comparisons, largest error \d", out)
    report = json.loads(classify(program, TINY, "--verify", "--json", "--precision", "fp32")[0])
    assert report["passed"]
    assert report["max_absolute_error"] < 1e-4


def spoil(artifact: Path) -> None:
    """Wrong golden logits, and no digest that would give them away."""
    data = re.sub(rb'"logits":\[0\.', b'"logits":[9.', artifact.read_bytes())
    artifact.write_bytes(re.sub(rb'"file_sha256":"[0-9a-f]{64}"', b'"file_sha256":""' + b" " * 64, data))


def test_verify_fails_with_one(program: Path, tiny: Path) -> None:
    spoil(tiny)
    out, err = classify(program, tiny, IMAGE, "--verify", code=1)
    assert "FAILED" in out
    assert "hint: export it again" in err


def test_the_self_test_refuses_with_one(program: Path, tiny: Path, verdicts: Path) -> None:
    classify(program, tiny, IMAGE)
    assert len(list(verdicts.iterdir())) == 1
    spoil(tiny)
    for arguments in ([], ["--self-test", "always"], ["--verify", "--self-test", "auto"]):
        out, err = classify(program, tiny, IMAGE, *arguments, code=1)
        assert not out
        assert "gives wrong answers in openvino" in err
        assert "expected: 9." in err
    assert "label" in classify(program, tiny, IMAGE, "--self-test", "never")[0]
    assert len(list(verdicts.iterdir())) == 1


def test_bench(program: Path) -> None:
    for streams in (1, 2):
        arguments = ["--bench", "20", "--streams", str(streams), "--batch-size", "3", "--json"]
        report = json.loads(classify(program, TINY, IMAGE, *arguments)[0])
        assert report["batch"] == 3
        assert report["runs"] == 20
        assert report["latency_ms"]["p50"] >= report["inference_ms"]["p50"] > 0
        assert report["images_per_s"] > 0
        assert report["decode_ms"]["images_per_s"] > 0  # reading, decoding and resizing: all on the CPU
        assert report["copy_ms"] is None
        assert report["jpeg_decoder"] == "cpu"
        assert report["peak_memory_bytes"] > 1 << 20
    out, _ = classify(program, TINY, IMAGE, "--bench", "5")
    assert "image to label" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([TINY], "no image was named"),
        ([], "MODEL is required"),
        (["gone.onnx", IMAGE], "no such file: gone.onnx"),
        ([TINY, IMAGE, "--runtime", "abacus"], "no runtime is called 'abacus'"),
        ([TINY, IMAGE, "--precision", "fp8"], "fp8"),
        ([TINY, IMAGE, "-k", "0"], "top_k"),
        ([TINY, IMAGE, "--batch-size", "0"], "batch_size"),
        ([TINY, IMAGE, "--streams", "many"], "streams"),
        ([TINY, IMAGE, "--decode", "nvjpeg"], "nvJPEG cannot decode"),
        ([TINY, IMAGE, "--decode", "gpu"], "decode"),
        ([TINY, IMAGE, "--self-test", "often"], "self-test"),
        ([TINY, IMAGE, "--unknown"], "--unknown"),
        ([TINY, "--bench", "3"], "--bench needs images"),
        ([TINY, ""], "the name of an image is empty"),
        ([TINY, IMAGE, "--threads", "100000"], "0 to 4096"),
        ([TINY, IMAGE, "--streams", "2147483647"], "1 to 4096"),
        ([TINY, IMAGE, "--cache", "/dev/null/cache"], "the cache cannot be used"),
        ([TINY, "gone.jpg", "--bench", "3"], "gone.jpg"),
        ([TINY, "tests/cpp"], "no images in tests/cpp/"),
    ],
)
def test_mistakes_are_errors(program: Path, arguments: list[str], says: str) -> None:
    out, err = classify(program, *arguments, code=2)
    assert says in err
    assert not out


def test_help_and_version(program: Path) -> None:
    out, _ = classify(program, "--help")
    assert "Example: vitrify-classify" in out
    out, _ = classify(program, "--version")
    assert re.match(r"vitrify-classify \d+\.\d+\.\d+, openvino(, cuda)?, pixels on \w+\n", out)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_cannot_be_written(program: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([program, TINY, IMAGE], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert b"the output cannot be written" in done.stderr


def test_a_closed_pipe_is_no_error(program: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([program, TINY, IMAGE, "--json"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_names_that_look_like_lists(program: Path, tmp_path: Path) -> None:
    for name in ("[a,b]", "a", "[photos]", "photos"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.jpg").write_bytes(Path(IMAGE).read_bytes())
    for name in ("[a,b]", "[photos]"):
        done = subprocess.run([program, TINY, name, "--json"], cwd=tmp_path, capture_output=True, check=True)
        assert json.loads(done.stdout)["image"] == f"{name}/one.jpg"


def test_streams_give_the_same_answers_in_the_same_order(program: Path) -> None:
    arguments = [TINY, str(GOLDEN / "images"), "--json", "--precision", "fp32", "--batch-size", "3"]
    one, three = (classify(program, *arguments, "--streams", streams)[0].splitlines() for streams in ("1", "3"))
    assert len(one) == len(three) > 9
    for mine, other in zip(map(json.loads, one), map(json.loads, three), strict=True):
        assert mine["image"] == other["image"]
        assert abs(mine["probability"] - other["probability"]) < 1e-6


def test_files_that_never_end(program: Path, tmp_path: Path) -> None:
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    _, err = classify(program, tmp_path / "zero.onnx", IMAGE, code=2)
    assert "no regular file" in err
    out, _ = classify(program, TINY, "/dev/zero", "--json", code=2)
    assert "too large" in json.loads(out)["error"]


def test_an_image_that_is_no_regular_file(program: Path) -> None:
    out, _ = classify(program, TINY, "/dev/stdin", "--json", stdin=Path(IMAGE).read_bytes())
    assert "label" in json.loads(out)
    out, _ = classify(program, TINY, "-", "--json", stdin=b"/tmp\n", code=2)
    assert json.loads(out)["error"] == "cannot read /tmp (Is a directory)"


def test_an_int8_artifact_with_its_search_answers_as_in_python(
    program: Path, trained: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "digits.int8.onnx", str(trained.folder)
    command = ["quantize", str(trained.onnx), "-o", str(path), "--calibration", folder, "--data", folder]
    assert run([*command, "--no-judge-speed"]) == 0
    report = json.loads(classify(program, path, "--verify", "--json")[0])
    assert report["passed"]
    capsys.readouterr()
    assert run(["predict", str(path), folder, "--json", "--runtime", "openvino", "--precision", "fp32"]) == 0
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    answers = [
        json.loads(line) for line in classify(program, path, folder, "--json", "--precision", "fp32")[0].splitlines()
    ]
    for answer, other in zip(answers, expected, strict=True):
        assert answer["top"][0]["label"] == other["top"][0]["label"]
        assert abs(answer["top"][0]["probability"] - other["top"][0]["probability"]) <= 1e-6
