"""What comes out of a network is looked at before anything indexes it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import LABELS, tiny_spec
from vitrify import Classifier
from vitrify.cli import main
from vitrify.errors import ArtifactError, RuntimeFailureError
from vitrify.graphs import write_artifact

RUNTIMES = ("onnxruntime", "openvino")
IMAGE = np.zeros((40, 40, 3), np.uint8)


def network(path: Path, body: str, shape: str) -> Path:
    """A graph that makes logits of an image's mean, whatever its spec says of six labels."""
    proto = onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["" : 18]>
        net (float[N, 3, 32, 32] image) => (float[{shape}] logits)
        <int64[2] flat = {{-1, 3072}}, int64[1] wide = {{1}}, int64[2] moved = {{1, 0}}> {{ {body} }}""")
    proto.graph.initializer.extend(
        [
            numpy_helper.from_array(np.full((3072, width), 1e-3, np.float32), f"w{width}")
            for width in (4, len(LABELS), 20)
        ]
    )
    write_artifact(proto, tiny_spec(), path)
    return path


SUMS = "r = Reshape (image, flat) "


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (SUMS + "logits = MatMul (r, w4)", "N, 4"),
        (SUMS + "logits = MatMul (r, w20)", "N, 20"),
        (SUMS + "logits = MatMul (r, w20)", "N, K"),
        (SUMS + "m = MatMul (r, w6) logits = Unsqueeze (m, wide)", "N, 1, 6"),
        ("logits = ReduceMean <keepdims = 0> (image)", ""),
        (SUMS + "m = MatMul (r, w6) logits = ReduceMean <keepdims = 1> (m, zero) zero = Constant <value_ints = [0]> ()",
         "M, 6"),
    ],
    ids=["four classes", "twenty", "a width that is known later", "three axes", "a scalar", "a row for all"],
)  # fmt: skip
def test_another_shape_is_an_error(tmp_path: Path, runtime: str, body: str, shape: str) -> None:
    if "zero = " in body:
        body = "zero = Constant <value_ints = [0]> () " + body.partition(" zero = ")[0]
    path = network(tmp_path / "other.onnx", body, shape)
    with pytest.raises((ArtifactError, RuntimeFailureError)) as caught, Classifier(path, runtime=runtime) as classify:
        classify([IMAGE] * 3)
    assert "other.onnx" in str(caught.value)
    assert "[B, 6]" in str(caught.value)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_number_is_an_error_that_names_the_image(
    tmp_path: Path, runtime: str, bad: float, capsys: pytest.CaptureFixture[str]
) -> None:
    path = network(tmp_path / "bad.onnx", SUMS + "m = MatMul (r, w6) logits = Add (m, b)", "N, 6")
    proto = onnx.load(path)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, bad, 0, 0, 0], np.float32), "b"))
    write_artifact(proto, tiny_spec(), path)
    with Classifier(path, runtime=runtime) as classify:
        with pytest.raises(RuntimeFailureError, match="no number for image 0") as caught:
            classify(IMAGE)
        assert repr(LABELS[2]) in str(caught.value)
    from PIL import Image

    Image.fromarray(IMAGE).save(tmp_path / "black.png")
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(path), str(tmp_path / "black.png"), "--json", "--runtime", runtime])
    assert ended.value.code == 2
    out = capsys.readouterr()
    assert "NaN" not in out.out
    assert "black.png" in out.err


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_use_after_close_is_a_typed_error(artifact: Path, runtime: str) -> None:
    classify = Classifier(artifact, runtime=runtime)
    classify.close()
    classify.close()
    for call in (lambda: classify(IMAGE), lambda: next(classify.stream([IMAGE])),
                 lambda: classify.logits(np.zeros((1, 3, 32, 32), np.float32))):  # fmt: skip
        with pytest.raises(RuntimeFailureError, match="not open"):
            call()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_fork_after_first_use_raises_at_once(artifact: Path, runtime: str) -> None:
    with Classifier(artifact, runtime=runtime) as classify:
        classify(IMAGE)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                classify(IMAGE)
            except RuntimeFailureError as error:
                code = 0 if "another process" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        classify(IMAGE)
