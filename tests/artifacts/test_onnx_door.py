"""Hostile ONNX files are refused before a runtime sees them. Each was seen to do harm, or could."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import tiny_spec
from vitrify import Classifier, _native
from vitrify.artifacts import Artifact
from vitrify.cli import main
from vitrify.errors import ArtifactError, VitrifyError
from vitrify.graphs import embed_spec, graph_cost
from vitrify.inspection import inspect_network
from vitrify.runtimes import open_runtime


def plain() -> onnx.ModelProto:
    """A classifier of six labels: what each hostile file begins with."""
    proto = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 18]>
        net (float[N, 3, 32, 32] image) => (float[N, 6] logits) <int64[2] flat = {-1, 3072}> {
          r = Reshape (image, flat)  m = MatMul (r, w)  logits = Add (m, b) }""")
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((3072, 6), np.float32), "w"))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(6, np.float32), "b"))
    embed_spec(proto, tiny_spec())
    return proto


def external(location: str, tensor: TensorProto) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "4096"), ("length", "24")):
        tensor.external_data.add(key=key, value=value)


def inner_graph(name: str = "inner") -> onnx.GraphProto:
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [1])
    return helper.make_graph([helper.make_node("Identity", ["b"], ["v"])], name, [], [value])


def memory_address(proto: onnx.ModelProto) -> None:
    external("*/_ORT_MEM_ADDR_/*", proto.graph.initializer[-1])


def a_file(proto: onnx.ModelProto) -> None:
    external("/etc/passwd", proto.graph.initializer[-1])


def no_location_flag(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[-1].external_data.add(key="location", value="weights.bin")


def in_an_attribute(proto: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(6, np.float32))
    external("*/_ORT_MEM_ADDR_/*", tensor)
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))


def in_a_subgraph(proto: onnx.ModelProto) -> None:
    graph = inner_graph()
    graph.initializer.append(numpy_helper.from_array(np.zeros(6, np.float32), "secret"))
    external("*/_ORT_MEM_ADDR_/*", graph.initializer[0])
    proto.graph.node.append(helper.make_node("If", ["b"], ["x"], then_branch=graph, else_branch=inner_graph()))


def in_a_list_of_tensors(proto: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(6, np.float32))
    external("x", tensor)
    node = helper.make_node("Identity", ["b"], ["x"])
    node.attribute.append(helper.make_attribute("t", [tensor]))
    proto.graph.node.append(node)


def a_loop(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], body=inner_graph()))


def a_function(proto: onnx.ModelProto) -> None:
    proto.functions.append(
        helper.make_function(
            "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)]
        )
    )


def another_domain(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("MatMul", ["m", "w"], ["x"], domain="com.microsoft"))


def an_unknown_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("RandomNormal", [], ["x"], shape=[1 << 40]))


def ten_thousand_nodes(proto: onnx.ModelProto) -> None:
    proto.graph.node.extend(helper.make_node("Relu", ["b"], [f"x{n}"]) for n in range(10_000))


def twenty_thousand_tensors(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.extend(numpy_helper.from_array(np.zeros(1, np.int8), f"t{n}") for n in range(20_000))


def a_tensor_of_nine_gigabytes(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(TensorProto(name="t", data_type=1, dims=[1 << 16, 1 << 15]))


def a_repeated_number(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(TensorProto(name="t", data_type=1, dims=[1 << 31], float_data=[0.0]))


def axes_that_overflow(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(TensorProto(name="t", data_type=1, dims=[1 << 32, 1 << 32], raw_data=b"0000"))


def strings(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(TensorProto(name="t", data_type=8, dims=[1], string_data=[b"x"]))


def a_sparse_tensor(proto: onnx.ModelProto) -> None:
    proto.graph.sparse_initializer.add(dims=[1 << 40])


def training(proto: onnx.ModelProto) -> None:
    proto.training_info.add()


def a_long_name(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].name = "x" * (1 << 20)


HOSTILE: list[Callable[[onnx.ModelProto], None]] = [
    memory_address, a_file, no_location_flag, in_an_attribute, in_a_subgraph, in_a_list_of_tensors, a_loop, a_function,
    another_domain, an_unknown_operator, ten_thousand_nodes, twenty_thousand_tensors, a_tensor_of_nine_gigabytes,
    a_repeated_number, axes_that_overflow, strings, a_sparse_tensor, training, a_long_name,
]  # fmt: skip


def write(path: Path, *, spoil: Callable[[onnx.ModelProto], None] | None = None) -> Path:
    proto = plain()
    if spoil is not None:
        spoil(proto)
    path.write_bytes(proto.SerializeToString())
    return path


def test_the_file_that_they_begin_with_runs(tmp_path: Path) -> None:
    path = write(tmp_path / "plain.onnx")
    assert Artifact.open(path).spec.labels == tiny_spec().labels
    for runtime in ("onnxruntime", "openvino"):
        with Classifier(path, runtime=runtime) as classify:
            assert classify(np.zeros((32, 32, 3), np.uint8))[0].probability == pytest.approx(1 / 6)


@pytest.mark.parametrize("spoil", HOSTILE, ids=lambda spoil: spoil.__name__)
def test_it_is_refused_by_everything_that_opens_a_file(
    tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "hostile.onnx", spoil=spoil)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(1 << 16))
    calls: list[Callable[[], object]] = [
        lambda: Artifact.open(path),
        lambda: Classifier(path),
        lambda: open_runtime(path, "onnxruntime"),
        lambda: open_runtime(path, "openvino"),
        lambda: inspect_network(path),
        lambda: graph_cost(path),
    ]
    for call in calls:
        with pytest.raises(ArtifactError, match="no ONNX file that vitrify runs"):
            call()


@pytest.mark.parametrize("command", ["predict", "verify", "eval", "bench", "inspect", "quantize", "build"])
def test_every_command_refuses_it(
    tmp_path: Path, photos: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write(tmp_path / "hostile.onnx", spoil=memory_address))
    arguments = {
        "predict": [path, str(photos)],
        "eval": [path, str(photos)],
        "quantize": [path, "--to", "int8", "--calibration", str(photos), "-o", str(tmp_path / "q.onnx")],
        "build": [path, "-o", str(tmp_path / "e.engine"), "--tensorrt", "rtx", "--compute-capability", "8.9"],
    }
    with pytest.raises(SystemExit) as ended:
        main([command, *arguments.get(command, [path])])
    assert ended.value.code == 2
    assert "outside" in capsys.readouterr().err


def test_exported_and_quantised_graphs_pass(artifact: Path) -> None:
    assert _native.onnx_fault(artifact.read_bytes()) is None


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_a_typed_error_or_passes_and_never_worse(data: st.DataObject) -> None:
    content = bytearray(plain().SerializeToString()[-900:] if data.draw(st.booleans()) else SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    fault = _native.onnx_fault(bytes(content[: data.draw(st.integers(0, len(content)))]))
    assert fault is None or all(part.isprintable() for part in fault)


SMALL = onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 18]>
    net (float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, 2}> { y = MatMul (x, w) }""").SerializeToString()


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    # Whole fields may be missing at the end; inside one, the file is damaged.
    faults = [_native.onnx_fault(SMALL[:length]) for length in range(len(SMALL))]
    assert faults[0] == ("no graph", "an ONNX model")
    assert sum(fault is None for fault in faults) <= 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_fifos_and_devices_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "null.onnx").symlink_to("/dev/zero")
    for name in ("pipe.onnx", "null.onnx"):
        with pytest.raises(VitrifyError, match="no regular file"):
            Classifier(tmp_path / name)


def test_bytes_that_were_checked_are_those_that_run(tmp_path: Path) -> None:
    path = write(tmp_path / "plain.onnx")
    opened = Artifact.open(path)
    write(path, spoil=memory_address)
    with open_runtime(opened, "openvino") as runtime:
        assert runtime.infer({"image": np.ones((1, 3, 32, 32), np.float32)})["logits"].tolist() == [[0] * 6]
