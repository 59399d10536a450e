from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import tiny_model
from vitrify.errors import ArtifactError
from vitrify.inspection import diagnose, inspect_network
from vitrify.runtimes import RuntimeRow


def by_hand(tokens: int, width: int, patch: int, classes: int, depth: int) -> tuple[int, int]:
    """FLOPs of the last block and of the whole network, from the formulas of the architecture.

    The last block has all tokens in its keys and values alone; the class token does the rest.
    """

    def block(computed: int) -> int:
        attention = 2 * tokens * width * (3 * width) + 2 * 2 * computed * tokens * width
        return attention + 2 * computed * width * width + 2 * 2 * computed * width * (4 * width)

    whole = (depth - 1) * block(tokens) + block(1)
    return block(1), whole + 2 * (tokens - 1) * width * 3 * patch * patch + 2 * width * classes


def test_shapes_parameters_and_flops(artifact: Path) -> None:
    network = inspect_network(artifact)
    parts = {part.name: part for part in network.parts}
    last, whole = by_hand(tokens=17, width=64, patch=8, classes=6, depth=2)
    assert network.opset == 18
    assert network.size_bytes == artifact.stat().st_size
    assert parts["blocks.1"].flops == last < parts["blocks.0"].flops
    assert network.flops == whole
    assert network.parameters == sum(parameter.numel() for parameter in tiny_model().parameters())
    assert parts["patch_embed"].output_shape == (None, 16, 64)
    assert parts["blocks.0"].output_shape == (None, 17, 64)
    assert parts["blocks.1"].output_shape == (None, 1, 64)
    assert parts["head"].output_shape == (None, 6)
    assert parts["blocks.0"].operators["LayerNormalization"] == 2


def test_what_is_no_onnx(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"\x08\x07 nonsense")
    with pytest.raises(ArtifactError, match=r"bad\.onnx"):
        inspect_network(path)


def test_the_doctor_does_not_say_what_only_openvino_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def processor() -> str:
        return next(finding for finding in diagnose() if finding.name == "processor").detail

    assert processor().endswith("native bf16")
    monkeypatch.setattr(RuntimeRow, "installed", property(lambda row: row.name != "openvino"))
    assert "native bf16 unknown" in processor()


def test_the_doctor_finds_this_machine_well() -> None:
    findings = {finding.name: finding for finding in diagnose()}
    assert findings["onnxruntime runtime"].state == findings["openvino runtime"].state == "ok"
    assert findings["numpy"].state == findings["torch"].state == "ok"
    assert not [finding for finding in findings.values() if finding.state == "broken"]
