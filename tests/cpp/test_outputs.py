"""What comes out of a network is looked at: its shape before anything indexes it, then its numbers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.cpp.conftest import GOLDEN
from tests.cpp.library import BAD_ARTIFACT, RUNTIME_FAILED, Library, StatusError
from vitrify.artifacts import read_spec
from vitrify.spec import SPEC_KEY

IMAGE = GOLDEN / "images" / "rgb.jpg"
Ending = tuple[list[NodeProto], list[int | str]]


def ending(path: Path, nodes: Sequence[NodeProto], shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> Path:
    """tiny.onnx, from whose logits, now called `scores`, these nodes make `logits`; without golden vectors."""
    model = onnx.load(GOLDEN / "tiny.onnx")
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    constants = {"zero": [0], "one": [1], "two": [2], "four": [4], "wide": [1, 4], "tall": [2, 1]}
    graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), f"i.{k}") for k, v in constants.items())
    graph.initializer.append(numpy_helper.from_array(np.array(np.nan, np.float32), "nan"))
    graph.node.extend(nodes)
    graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", kind, shape))
    onnx.helper.set_model_props(
        model, {SPEC_KEY: read_spec(GOLDEN / "tiny.onnx").replace(golden=(), file_sha256="").to_json()}
    )
    onnx.save(model, path)
    return path


def node(operator: str, *inputs: str, output: str = "logits", **attributes: Any) -> NodeProto:
    return helper.make_node(operator, list(inputs), [output], **attributes)


def known(number: str) -> list[NodeProto]:
    """`number`, as something that only the pixels decide: the rows of a slice that they cut are not known before."""
    return [
        node("ReduceMax", "image", output="r.max", keepdims=0),
        node("IsNaN", "r.max", output="r.nan"),
        node("Cast", "r.nan", output="r.zero", to=TensorProto.INT64),
        node("Add", "r.zero", f"i.{number}", output="known"),
    ]


STATIC: dict[str, Ending] = {
    "3-D": ([node("Unsqueeze", "scores", "i.two")], ["B", 6, 1]),
    "a scalar": ([node("ReduceMax", "scores", keepdims=0)], []),
    "1-D": ([node("ReduceMax", "scores", "i.one", keepdims=0)], ["B"]),
    "24 classes": ([node("Tile", "scores", "i.wide")], ["B", 24]),
    "4 classes": ([node("Slice", "scores", "i.zero", "i.four", "i.one")], ["B", 4]),
}
DYNAMIC: dict[str, Ending] = {
    "4 classes": ([*known("four"), node("Slice", "scores", "i.zero", "known", "i.one")], ["B", "C"]),
    "24 classes": ([*known("wide"), node("Tile", "scores", "known")], ["B", "C"]),
    "one row for two": ([*known("one"), node("Slice", "scores", "i.zero", "known", "i.zero")], ["R", 6]),
    "two rows for one": ([*known("tall"), node("Tile", "scores", "known")], ["R", 6]),
}


@pytest.mark.parametrize("name", STATIC)
def test_a_shape_that_the_graph_says(library: Library, tmp_path: Path, name: str) -> None:
    path = ending(tmp_path / "model.onnx", *STATIC[name])
    with pytest.raises(StatusError, match="disagree") as refused:
        library.load(path)
    assert refused.value.status == BAD_ARTIFACT
    assert "logits f32 [" in str(refused.value)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", DYNAMIC)
def test_a_shape_that_only_running_tells(library: Library, tmp_path: Path, name: str, half: bool) -> None:
    nodes, shape = DYNAMIC[name]
    if half:
        last = NodeProto.FromString(nodes[-1].SerializeToString())
        last.output[:] = ["full"]
        nodes = [*nodes[:-1], last, node("Cast", "full", to=TensorProto.FLOAT16)]
    path = ending(tmp_path / "model.onnx", nodes, shape, TensorProto.FLOAT16 if half else TensorProto.FLOAT)
    tensors = np.zeros((2, *read_spec(path).input_shape), np.float32)
    with library.load(path) as native:
        with pytest.raises(StatusError, match="the network gives another shape than its spec says") as refused:
            native.infer(tensors)
        assert refused.value.status == BAD_ARTIFACT
        assert "[2,6]" in str(refused.value)


def test_a_dynamic_shape_that_fits(library: Library, tmp_path: Path) -> None:
    nodes, shape = DYNAMIC["one row for two"]
    path = ending(tmp_path / "model.onnx", nodes, shape)
    tensors = np.random.default_rng(0).standard_normal((1, *read_spec(path).input_shape), dtype=np.float32)
    with library.load(path, precision=b"fp32") as native, library.load(GOLDEN / "tiny.onnx", precision=b"fp32") as tiny:
        assert np.allclose(native.infer(tensors), tiny.infer(tensors), atol=1e-6)


def test_answers_that_are_no_numbers(library: Library, program: Path, tmp_path: Path) -> None:
    path = ending(tmp_path / "model.onnx", [node("Mul", "scores", "nan")], ["B", 6])
    with library.load(path) as native:
        for image in (str(IMAGE), IMAGE.read_bytes()):
            with pytest.raises(StatusError, match="is no number") as refused:
                native.classify(image)
            assert refused.value.status == RUNTIME_FAILED
        with pytest.raises(StatusError, match="image 0 of the batch"):
            native.infer(np.zeros((2, *native.shape), np.float32))
    for arguments in (["--json"], [], ["--bench", "2", "--json"]):
        done = subprocess.run([program, path, IMAGE, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert str(IMAGE) in done.stderr
        assert "nan" in done.stderr
        assert "nan" not in done.stdout.lower()


def test_what_was_answered_before_a_failure_is_printed(program: Path, tmp_path: Path) -> None:
    """NaN for the images that are bright alone: the others' answers appear."""
    nodes = [
        node("ReduceMin", "image", output="darkest", keepdims=0),
        node("Sqrt", "darkest", output="root"),
        node("Sub", "root", "root", output="zero"),
        node("Add", "scores", "zero"),
    ]
    path = ending(tmp_path / "model.onnx", nodes, ["B", 6])
    from PIL import Image

    names = []
    for name, level in (("white", 255), ("black", 0)):
        names.append(str(tmp_path / f"{name}.png"))
        Image.new("RGB", (40, 40), (level,) * 3).save(names[-1])
    for arguments in (["--json"], []):
        command: list[str | Path] = [program, path, *names, "--batch-size", "1", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert names[1] in done.stderr
        assert names[0] in done.stdout
        assert names[1] not in done.stdout
    assert json.loads(subprocess.run([program, path, names[0], "--json"], capture_output=True, check=True).stdout)
