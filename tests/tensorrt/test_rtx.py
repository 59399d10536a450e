"""Real engines, built by TensorRT-RTX on the processor: parsing, profiles, targets, audit, refusals. None is run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.tensorrt.graphs import write_claiming, write_fp16, write_static, write_with_operator
from vitrify.artifacts import Artifact, BuildConfig, Gpu, Profile, manifest_path, read_manifest, read_spec
from vitrify.cli.app import run
from vitrify.cuda import gpu_or_none
from vitrify.errors import ArtifactError, BuildError, EngineError, GateError, OptionError
from vitrify.files import sha256_of
from vitrify.graphs import write_artifact
from vitrify.pixels import preprocess
from vitrify.precision import Recipe, Rewriter
from vitrify.runtimes import open_runtime
from vitrify.tensorrt import load_tensorrt, require_fit
from vitrify.tensorrt.precision import layers_to_pin
from vitrify.tensorrt.watching import log_of
from vitrify.workflows.build import engine_from_onnx
from vitrify.workflows.export import onnx_from_checkpoint

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="TensorRT-RTX is not installed"
)
no_gpu = pytest.mark.skipif(gpu_or_none() is not None, reason="there is a GPU")


def config(*capabilities: str, **options: Any) -> BuildConfig:
    return BuildConfig(tensorrt="rtx", compute_capabilities=capabilities or ("8.9",), **options)


@pytest.fixture(scope="module")
def half(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fp16(artifact, tmp_path_factory.mktemp("half") / "tiny.fp16.onnx")


def test_where_the_graph_decides_norms_cannot_be_let_go(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="takes the types from the graph"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config(hold_norms=False))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("capability", ["8.0", "8.9", "12.0"])
def test_an_engine_for_a_gpu_that_is_not_here(artifact: Path, tmp_path: Path, capability: str) -> None:
    result = engine_from_onnx(artifact, tmp_path / "m.engine", config=config(capability))
    manifest = read_manifest(result.path)
    assert manifest == result.manifest
    assert manifest.compute_capabilities == (capability,)
    assert (manifest.flavour, manifest.precision, manifest.pinned) == ("rtx", "fp32", ())
    assert manifest.tensorrt == load_tensorrt("rtx").version
    assert manifest.onnx_sha256 == sha256_of(artifact)
    assert (manifest.plan_sha256, manifest.plan_bytes) == (sha256_of(result.path), result.path.stat().st_size)
    assert manifest.onnx_path(result.path).resolve() == artifact.resolve()
    assert read_spec(result.path) == manifest.spec == read_spec(artifact)
    assert manifest.verification is None
    assert any("vitrify verify" in note for note in result.notes)
    Artifact.open(result.path).require_intact()
    here = Gpu(name="some GPU", compute_capability=capability, memory_bytes=1, driver="13.0")
    require_fit(result.path, manifest, load_tensorrt("rtx"), here)


def test_one_plan_for_several_gpus_and_several_profiles(artifact: Path, tmp_path: Path) -> None:
    profiles = (Profile.parse("1"), Profile.parse("2:8:32"))
    result = engine_from_onnx(artifact, tmp_path / "m.plan", config=config("8.6", "12.0", profiles=profiles))
    assert result.manifest.compute_capabilities == ("8.6", "12.0")
    assert result.manifest.config.profiles == profiles
    h100 = Gpu(name="H100", compute_capability="9.0", memory_bytes=1, driver="13.0")
    with pytest.raises(EngineError, match=r"compute capability: 9\.0[\s\S]*8\.6 or 12\.0[\s\S]*--rebuild"):
        require_fit(result.path, result.manifest, load_tensorrt("rtx"), h100)


def test_the_audit_sees_fp32_and_what_did_not_fuse(artifact: Path, tmp_path: Path) -> None:
    audit = engine_from_onnx(artifact, tmp_path / "m.engine", config=config()).manifest.audit
    products = [node for node in onnx.load(artifact).graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    assert audit.source == "build log"
    assert set(audit.matrix_types) == {"fp32"}
    assert audit.attention_blocks == 2
    # Each product of the graph is a layer of its own, or was fused with another: never more than there are.
    assert len(products) // 2 <= sum(layer.matrix for layer in audit.layers) <= len(products)
    assert audit.fused_attention == sum(layer.attention for layer in audit.layers)
    if audit.fused_attention < 2:
        assert f"{2 - audit.fused_attention} of 2 attention blocks are not fused" in audit.shortfalls


def test_the_audit_sees_fp16_and_fused_attention(half: Path, tmp_path: Path) -> None:
    manifest = engine_from_onnx(half, tmp_path / "m.engine", config=config()).manifest
    assert manifest.precision == manifest.spec.precision == manifest.audit.asked == "fp16"
    assert manifest.audit.fused_attention == manifest.audit.attention_blocks == 2
    assert manifest.audit.matrix_types["fp16"] == sum(layer.matrix for layer in manifest.audit.layers)
    fused = [layer for layer in manifest.audit.layers if layer.attention]
    assert all(any("Softmax" in node for node in layer.onnx) for layer in fused)


def test_what_a_gpu_cannot_compute_is_said(artifact: Path, half: Path, tmp_path: Path) -> None:
    # Turing multiplies fp16 in TensorRT-RTX, and no fp32.
    with pytest.raises(BuildError, match=r"made no engine[\s\S]*FP32 GEMM is not supported[\s\S]*--to fp16"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config("7.5"))
    assert list(tmp_path.iterdir()) == []
    manifest = engine_from_onnx(half, tmp_path / "m.engine", config=config("7.5")).manifest
    assert manifest.compute_capabilities == ("7.5",)


def test_a_build_that_fell_back_to_fp32_fails(artifact: Path, tmp_path: Path) -> None:
    claiming = write_claiming(artifact, tmp_path / "claims.onnx", "fp16")
    with pytest.raises(GateError, match=r"did not build what was asked for: fp16[\s\S]*in fp32") as caught:
        engine_from_onnx(claiming, tmp_path / "m.engine", config=config())
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == [claiming]


def test_another_precision_than_the_graphs_says_how(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"takes the types from the graph[\s\S]*vitrify quantize"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=config(precision="int8"))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_sixteen_bits_are_given_to_the_graph_first(artifact: Path, tmp_path: Path, precision: Any) -> None:
    result = engine_from_onnx(artifact, tmp_path / "m.engine", config=config(precision=precision))
    assert result.manifest.precision == result.manifest.spec.precision == precision
    assert result.manifest.onnx_sha256 == sha256_of(artifact)  # the fp32 file stays the source
    audit = result.manifest.audit
    assert sum(precision in layer.reads for layer in audit.layers if layer.matrix) > 5
    assert audit.fused_attention == audit.attention_blocks == 2


@pytest.mark.parametrize(("to", "around"), [("int8", "fp16"), ("int8", "bf16"), ("fp8", "fp16")])
def test_eight_bits_between_halves(artifact: Path, photos: Path, tmp_path: Path, to: Any, around: Any) -> None:
    batch = preprocess(sorted(photos.rglob("*.*g"))[:32], read_spec(artifact).preprocess)
    rewritten = Rewriter(onnx.load(artifact), lambda: [batch]).rewrite(
        Recipe(precision=to, around=around, split_qkv=True)
    )
    write_artifact(rewritten.proto, read_spec(artifact).replace(precision=to), tmp_path / "m.onnx")
    audit = engine_from_onnx(tmp_path / "m.onnx", tmp_path / "m.engine", config=config()).manifest.audit
    products = [layer for layer in audit.layers if layer.matrix]
    assert sum(to in layer.reads for layer in products) == 8  # qkv as one again, proj, fc1 and fc2 of two blocks
    assert audit.fused_attention == 2
    assert not any(set(layer.reads) == {"fp32"} for layer in products if "blocks" in layer.name)


def test_an_unsupported_operator_is_named_with_its_node(artifact: Path, tmp_path: Path) -> None:
    odd = write_with_operator(artifact, tmp_path / "odd.onnx", "ConvInteger")
    with pytest.raises(BuildError, match=r"cannot read the graph[\s\S]*head/Odd_7 \(ConvInteger\)"):
        engine_from_onnx(odd, tmp_path / "m.engine", config=config())
    assert not (tmp_path / "m.engine").exists()


def test_a_damaged_graph(artifact: Path, tmp_path: Path) -> None:
    # The spec comes last in the file; what is damaged is the middle.
    content = bytearray(artifact.read_bytes())
    content[200:4000] = bytes(3800)
    (tmp_path / "damaged.onnx").write_bytes(content)
    with pytest.raises((BuildError, ArtifactError)) as caught:
        engine_from_onnx(tmp_path / "damaged.onnx", tmp_path / "m.engine", config=config())
    assert caught.value.hint


def test_a_fixed_batch_axis_is_refused(artifact: Path, tmp_path: Path) -> None:
    static = write_static(artifact, tmp_path / "static.onnx", 4)
    with pytest.raises(BuildError, match=r"one dynamic axis[\s\S]*\[4, 3, 32, 32\]"):
        engine_from_onnx(static, tmp_path / "m.engine", config=config())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"compute_capabilities": ("9.0",)}, r"does not compile for compute capability 9\.0[\s\S]*8\.9[\s\S]*full"),
        ({"hardware_compatible": "ampere+"}, "has not got hardware compatibility AMPERE_PLUS"),
        ({"tactic_sources": ("CUBLAS",)}, "has no tactic source CUBLAS"),
    ],
)
def test_options_that_rtx_does_not_have(artifact: Path, tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        engine_from_onnx(
            artifact,
            tmp_path / "m.engine",
            config=BuildConfig(**{"tensorrt": "rtx", "compute_capabilities": ("8.9",), **options}),
        )


@no_gpu
def test_without_a_gpu_one_has_to_be_named(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no GPU here[\s\S]*12\.0[\s\S]*--compute-capability 8\.9"):
        engine_from_onnx(artifact, tmp_path / "m.engine", config=BuildConfig(tensorrt="rtx"))


def test_ctrl_c_stops_the_build_and_leaves_nothing(artifact: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.engine"
    target.write_bytes(b"what stood here")
    # In a process of its own, as a user's is: the signal arrives inside one of TensorRT's callbacks.
    program = f"""
        import signal
        from vitrify.artifacts import BuildConfig
        from vitrify.workflows.build import engine_from_onnx

        class Interrupting:
            labels = []
            def say(self, message):
                print(message)
            def track(self, items, *, label, total=None):
                self.labels.append(label)
                if label == "Building engine":
                    signal.raise_signal(signal.SIGINT)
                return iter(items)

        before = signal.getsignal(signal.SIGINT)
        config = BuildConfig(tensorrt="rtx", compute_capabilities=("8.9",))
        try:
            engine_from_onnx({str(artifact)!r}, {str(target)!r}, config=config, progress=Interrupting())
        except KeyboardInterrupt:
            print("interrupted")
        assert "Building engine" in Interrupting.labels
        assert "Computing profile costs" not in Interrupting.labels, "it ran to its end"
        assert signal.getsignal(signal.SIGINT) is before
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "press Ctrl-C again" in done.stdout
    assert done.stdout.endswith("interrupted\n")
    assert target.read_bytes() == b"what stood here"
    assert list(tmp_path.iterdir()) == [target]


@no_gpu
def test_an_engine_cannot_run_where_there_is_no_gpu(artifact: Path, tmp_path: Path) -> None:
    path = engine_from_onnx(artifact, tmp_path / "m.engine", config=config()).path
    from vitrify.errors import DeviceError

    with pytest.raises(DeviceError, match=r"no NVIDIA GPU[\s\S]*hint: use the ONNX file"):
        open_runtime(path)


@pytest.mark.parametrize(("opset", "norm"), [(16, 7), (18, 1)])
def test_norms_and_softmaxes_are_found_whole_and_taken_apart(
    checkpoint: Path, tmp_path: Path, opset: int, norm: int
) -> None:
    """Which layers TensorRT 8 would hold in fp32, in a network that a real parser made."""
    path = onnx_from_checkpoint(checkpoint, tmp_path / "m.onnx", opset=opset).path
    trt = load_tensorrt("rtx")
    logger = log_of(trt).logger
    builder = trt.module.Builder(logger)
    network = builder.create_network(0)
    parser = trt.module.OnnxParser(network, logger)
    assert parser.parse(path.read_bytes())
    names = [str(layer.name) for layer in layers_to_pin(trt, network)]
    assert sum("Softmax" in name for name in names) == 2
    # Two norms a block and one at the end; of mean, subtract, square, mean, add, root, divide, none is missing.
    assert sum("norm" in name for name in names) == 5 * norm
    assert len(names) == 2 + 5 * norm
    assert not any("act" in name or "mlp" in name for name in names)


def test_the_command_builds_and_inspects(
    half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    target = str(tmp_path / "m.engine")
    arguments = ["build", str(half), "-o", target, "--tensorrt", "rtx", "--compute-capability", "8.9"]
    assert run([*arguments, "--profile", "1:4:16"]) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 blocks fused" in shown
    assert "1 to 16, tuned for 4" in shown
    assert run([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["manifest"]["compute_capabilities"] == ["8.9"]
    assert run(["inspect", target]) == 0
    shown = capsys.readouterr().out
    assert "_gemm_mha" in shown
    assert "compute capability 8.9" in shown
    assert run(["inspect", target, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["manifest"]["audit"]["fused_attention"] == 2
    manifest_path(target).unlink()
    assert run(["inspect", target]) == 2
    assert "has no manifest" in capsys.readouterr().err


def test_the_command_names_what_is_wrong(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, says in (
        ([str(artifact)], "needs the engine's name"),
        ([str(artifact), "-o", str(tmp_path / "m.onnx")], "suffix"),
        ([str(artifact), "-o", str(tmp_path / "m.engine"), "--profile", "8:1:4"], "not in order"),
        ([str(tmp_path / "no.onnx"), "-o", str(tmp_path / "m.engine")], "no such file"),
        ([str(tmp_path / "no.engine"), "--rebuild"], "no manifest"),
        ([str(tmp_path / "a.pth"), "-o", str(tmp_path / "m.engine")], "an .onnx file"),
    ):
        assert run(["build", *arguments]) == 2
        assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["-o", "other.engine"], "--output"),
        (["--profile", "1:8:64"], "--profile"),  # the default, and maybe not what the manifest says
        (["--no-hold-norms", "--tf32"], "--hold-norms, --tf32"),
    ],
)
def test_a_rebuild_ignores_no_option(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], named: str
) -> None:
    assert run(["build", str(tmp_path / "m.engine"), "--rebuild", *options]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert f"got: {named} expected: --rebuild alone" in shown
    assert run(["build", str(tmp_path / "m.engine"), "--rebuild", "--json"]) == 2  # goes on, to what is missing
    assert "no manifest" in capsys.readouterr().err
