"""Graphs to build engines from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vitrify.artifacts import read_spec
from vitrify.graphs import embed_spec
from vitrify.spec import Precision


def write_fp16(source: Path, target: Path) -> Path:
    """An artifact whose graph computes in fp16 between a fp32 input and a fp32 output, and says so in its spec."""
    proto = onnx.load(source)
    graph = proto.graph
    fed, given = graph.input[0].name, graph.output[0].name
    weights = [
        *graph.initializer,
        *(a.t for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.TENSOR),
    ]
    for weight in weights:
        if weight.data_type == TensorProto.FLOAT:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name))
    for node in graph.node:
        if node.op_type != "Shape":
            node.input[:] = [f"{name}_half" if name == fed else name for name in node.input]
        node.output[:] = [f"{name}_half" if name == given else name for name in node.output]
    graph.node.insert(0, helper.make_node("Cast", [fed], [f"{fed}_half"], to=TensorProto.FLOAT16, name="to_fp16"))
    graph.node.append(helper.make_node("Cast", [f"{given}_half"], [given], to=TensorProto.FLOAT, name="to_fp32"))
    graph.ClearField("value_info")
    return _save(proto, source, target, "fp16")


def write_claiming(source: Path, target: Path, precision: Precision) -> Path:
    """An artifact whose spec claims a precision that its graph does not have."""
    return _save(onnx.load(source), source, target, precision)


def write_with_operator(source: Path, target: Path, operator: str) -> Path:
    """An artifact with an operator that nobody knows before its last node."""
    proto = onnx.load(source)
    last = proto.graph.node[-1]
    before = last.input[0]
    node = helper.make_node(operator, [before], [f"{before}_odd"], name="head/Odd_7", domain="")
    last.input[0] = f"{before}_odd"
    proto.graph.node.insert(len(proto.graph.node) - 1, node)
    proto.graph.ClearField("value_info")
    return _save(proto, source, target, "fp32")


def write_static(source: Path, target: Path, batch: int) -> Path:
    """An artifact whose batch axis is a number."""
    proto = onnx.load(source)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    proto.graph.ClearField("value_info")
    return _save(proto, source, target, "fp32")


def _save(proto: onnx.ModelProto, source: Path, target: Path, precision: Precision) -> Path:
    embed_spec(proto, read_spec(source).replace(precision=precision))
    onnx.save(proto, target)
    return target
