"""The inspector's text in the forms of three releases, as NVIDIA documents them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vitrify.artifacts import AuditedLayer
from vitrify.errors import GateError
from vitrify.tensorrt.audit import audit_from_inspector, audit_from_log, require_asked


def tensor(name: str, **kind: str) -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": [8, 197, 768], **kind}


OLD = {  # TensorRT 8 to 10: one field, and the flat list of bindings
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to patch_embed.proj/Conv_1",
            "LayerType": "Reformat",
            "Inputs": [tensor("image", **{"Format/Datatype": "Row major linear FP32"})],
            "Outputs": [tensor("copy", **{"Format/Datatype": "Row major linear FP16 format (kLINEAR)"})],
        },
        {
            "Name": "patch_embed.proj/Conv_1",
            "LayerType": "CaskConvolution",
            "Inputs": [tensor("copy", **{"Format/Datatype": "Row major linear FP16 format (kLINEAR)"})],
            "Outputs": [tensor("conv", **{"Format/Datatype": "Row major linear FP16 format (kLINEAR)"})],
            "Weights": {"Type": "Half", "Count": 589824},
        },
        {
            "Name": "{ForeignNode[blocks.0.norm1/ReduceMean_30...head/Gemm_142]}",
            "LayerType": "Myelin",
            "Inputs": [tensor("conv", **{"Format/Datatype": "Row major linear FP16 format (kLINEAR)"})],
            "Outputs": [tensor("logits", **{"Format/Datatype": "Row major linear FP32"})],
        },
    ],
    "Bindings": ["image", "logits"],
}

NEW = {  # TensorRT 11: two fields, and tensors with their properties
    "Layers": [
        {
            "Name": "__myl_FcAdd_myl0_3",
            "LayerType": "gemm",
            "Inputs": [tensor("x", Datatype="BFloat16", Format="Row major linear format")],
            "Constants": [tensor("w", Datatype="BFloat16", Format="Row major linear format")],
            "Outputs": [tensor("y", Datatype="BFloat16", Format="Row major linear format")],
            "Metadata": "[ONNX Layer: blocks.0.attn.qkv/MatMul_9]",
        },
        {
            "Name": "__myl_Fused_myl0_4",
            "LayerType": "kgen",
            "Inputs": [tensor("y", DataType="BF16")],
            "Outputs": [tensor("z", DataType="BF16")],
            "Metadata": "[ONNX Layer: blocks.0.attn/MatMul_24]\u001e[ONNX Layer: blocks.0.attn/Softmax_23]\u001e"
            "[ONNX Layer: blocks.0.attn/MatMul_22]",
        },
        {
            "Name": "shape",
            "LayerType": "shape_call",
            "Inputs": [],
            "Outputs": [tensor("n", Datatype="Int64")],
        },
    ],
    "I/O Tensors": [{"Name": "image", "IOMode": "Input", "DataType": "Float"}],
}


def test_the_form_up_to_10() -> None:
    audit = audit_from_inspector(json.dumps(OLD), asked="fp16", attention_blocks=12)
    copy, conv, whole = audit.layers
    assert (copy.reads, copy.writes, copy.matrix) == (("fp32",), ("fp16",), False)
    assert (conv.reads, conv.writes, conv.matrix) == (("fp16",), ("fp16",), True)
    assert (whole.reads, whole.writes, whole.matrix) == (("fp16",), ("fp32",), False)
    assert audit.opaque == 1
    assert audit.shortfalls == ()  # what a layer hides is not said to be missing


def test_the_form_of_11() -> None:
    audit = audit_from_inspector(json.dumps(NEW), asked="bf16", attention_blocks=2)
    gemm, fused, shape = audit.layers
    assert (gemm.reads, gemm.writes, gemm.matrix) == (("bf16",), ("bf16",), True)
    assert gemm.onnx == ("blocks.0.attn.qkv/MatMul_9",)
    assert fused.attention
    assert not gemm.attention
    assert (shape.reads, shape.writes, shape.matrix) == ((), (), False)
    assert (audit.fused_attention, audit.opaque) == (1, 0)
    assert audit.shortfalls == ("1 of 2 attention blocks are not fused",)
    require_asked(audit)


def test_where_layers_hide_their_types_the_weights_tell() -> None:
    audit = audit_from_inspector(json.dumps(OLD), asked="fp16", attention_blocks=12)
    require_asked(audit, plan_bytes=175_000_000, fp32_bytes=343_000_000)
    require_asked(audit, plan_bytes=6_000_000, fp32_bytes=3_400_000)  # code outweighs the weights of a small model
    with pytest.raises(GateError, match=r"a plan of 346 MB from a graph of 343 MB in fp32"):
        require_asked(audit, plan_bytes=346_000_000, fp32_bytes=343_000_000)


def test_each_profile_may_bring_its_own_copy_of_the_weights() -> None:
    audit = audit_from_inspector(json.dumps(OLD), asked="fp16", attention_blocks=12)
    # Two copies in 16 bits and kernels for each profile are no fall back to fp32; two copies in fp32 are.
    require_asked(audit, plan_bytes=390_000_000, fp32_bytes=343_000_000, profiles=2)
    with pytest.raises(GateError, match=r"a plan of 690 MB[\s\S]*for each profile"):
        require_asked(audit, plan_bytes=690_000_000, fp32_bytes=343_000_000, profiles=2)
    with pytest.raises(GateError, match="a plan of 390 MB"):
        require_asked(audit, plan_bytes=390_000_000, fp32_bytes=343_000_000)


def test_a_first_convolution_does_not_speak_for_a_layer_that_hides_its_types() -> None:
    layers = [
        {"Name": "patch_embed/Conv", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Row FP32"}]},
        {"Name": "{ForeignNode[a...b]}", "LayerType": "Myelin"},
    ]
    audit = audit_from_inspector(json.dumps({"Layers": layers}), asked="fp16", attention_blocks=4)
    assert (audit.opaque, audit.matrix_types) == (1, {"fp32": 1})
    assert audit.shortfalls == ("patch_embed/Conv multiplies in fp32",)
    require_asked(audit)


@pytest.mark.parametrize("text", ['{"Layers": ["a", "b"], "Bindings": []}', "{}", "", "{"])
def test_an_inspector_that_says_nothing(text: str) -> None:
    audit = audit_from_inspector(text, asked="fp16", attention_blocks=2)
    assert audit.layers == ()
    require_asked(audit)


def test_a_log_without_layers() -> None:
    audit = audit_from_log("", asked="fp16", attention_blocks=2)
    assert (audit.source, audit.layers, audit.shortfalls) == ("none", (), ())


def test_a_fall_back_is_refused_and_a_few_layers_are_told() -> None:
    def engine(fp16: int, fp32: int) -> str:
        kinds = ["Half"] * fp16 + ["Float"] * fp32
        layers = [
            {"Name": f"g{i}", "LayerType": "gemm", "Inputs": [{"Datatype": kind}]} for i, kind in enumerate(kinds)
        ]
        return json.dumps({"Layers": layers})

    mostly = audit_from_inspector(engine(3, 1), asked="fp16", attention_blocks=0)
    assert mostly.shortfalls == ("g3 multiplies in fp32",)
    require_asked(mostly)
    for fp16, fp32 in ((1, 1), (0, 4)):
        with pytest.raises(GateError, match=rf"of {fp16 + fp32} layers[\s\S]*{fp32} in fp32"):
            require_asked(audit_from_inspector(engine(fp16, fp32), asked="fp16", attention_blocks=0))


@pytest.mark.parametrize(
    ("name", "onnx", "attention"),
    [
        ("_gemm_mha_v2_myl0_10", (), True),
        ("__myl_x", ("a/MatMul_1", "a/Softmax_2", "a/MatMul_3"), True),
        ("__myl_x", ("a/MatMul_1", "a/Softmax_2"), False),
        ("__myl_x", ("a/MatMul_1", "a/MatMul_3"), False),
        ("", (), False),
    ],
)
def test_a_fused_attention_block_is_known_by_what_went_into_it(
    name: str, onnx: tuple[str, ...], attention: bool
) -> None:
    layer = AuditedLayer(name=name, kind="kgen", reads=(), writes=(), matrix=False, onnx=onnx)
    assert layer.attention == attention
