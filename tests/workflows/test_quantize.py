"""The search for a lower precision, on a model that reads digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from tests.precision import planted
from tests.precision.digits import SPEC, Digits, accuracy, export
from tests.workflows.test_export import Recorder
from vitrify.bench import Turns
from vitrify.cli.app import run
from vitrify.errors import DatasetError, GateError, OptionError, RuntimeFailureError
from vitrify.pixels import preprocess
from vitrify.precision import Recipe
from vitrify.runtimes import has_native_bf16, open_runtime
from vitrify.spec import PrecisionSearch, read_spec
from vitrify.spec.codec import decode
from vitrify.verify import verify_artifact
from vitrify.workflows import judging
from vitrify.workflows.judging import IMAGE_BATCH
from vitrify.workflows.limits import Limits
from vitrify.workflows.quantize import QuantizeConfig, QuantizeResult, labelled_images, quantized_from_onnx


def config(precision: Any = "int8", *, limits: Limits | None = None, **options: Any) -> QuantizeConfig:
    recipe = {key: options.pop(key) for key in ("smooth", "calibrator", "around", "narrow", "keep") if key in options}
    return QuantizeConfig(
        recipe=Recipe(precision=precision, **recipe), limits=limits or Limits(min_speedup=None), **options
    )


def quantize(trained: Digits, source: Path, output: Path, chosen: QuantizeConfig, **more: Any) -> QuantizeResult:
    return quantized_from_onnx(
        source,
        output,
        calibration=trained.calibration,
        config=chosen,
        images=trained.held_out,
        labels=trained.labels,
        **more,
    )


def logits(path: Path, images: Any) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": preprocess(images, SPEC.preprocess)})[0])


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Calibration images for ONNX Runtime's own quantizer."""

    def __init__(self, trained: Digits) -> None:
        batch = preprocess(trained.calibration, SPEC.preprocess)
        self._batches = iter([{"image": batch[start : start + 16]} for start in range(0, len(batch), 16)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def naive(trained: Digits, source: Path, target: Path, precision: str) -> float:
    """Accuracy of what ONNX Runtime's own tools make without being told what to leave out."""
    if precision == "fp16":
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    else:
        quantize_static(
            source,
            target,
            Reader(trained),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
    return accuracy(logits(target, trained.held_out), trained.labels)


@pytest.fixture(scope="module")
def int8(trained: Digits, tmp_path_factory: pytest.TempPathFactory) -> QuantizeResult:
    return quantize(trained, trained.onnx, tmp_path_factory.mktemp("int8") / "digits.int8.onnx", config())


def test_the_artifact_is_small_right_and_tells_how_it_was_made(trained: Digits, int8: QuantizeResult) -> None:
    assert int8.path is not None
    assert int8.spec is not None
    assert read_spec(int8.path) == int8.spec
    assert int8.spec.precision == "int8"
    assert int8.size_bytes < 0.4 * int8.source_bytes
    truth = accuracy(logits(trained.onnx, trained.held_out), trained.labels)
    assert abs(accuracy(logits(int8.path, trained.held_out), trained.labels) - truth) <= 0.005
    search = int8.spec.precision_search
    assert search is not None
    assert (search.images, search.calibration_images) == (300, 96)
    assert [attempt.recipe for attempt in search.attempts if attempt.recipe != "source"] == [
        "int8, mse ranges, smoothed"
    ]
    assert search.attempts[-1].passed
    assert search.smoothed
    assert int8.spec.verification is not None
    judged = {(check.runtime, check.inputs) for check in int8.spec.verification.checks}
    assert {("onnxruntime", "images"), ("openvino", "images"), ("openvino", "golden")} <= judged
    checks = verify_artifact(int8.path, reference=trained.onnx, images=trained.held_out[:40]).checks
    assert all(check.passed for check in checks)
    assert {check.runtime for check in checks} == {"onnxruntime", "openvino"}


@pytest.mark.parametrize(
    ("fault", "precision"),
    [("residual", "fp16"), ("queries", "fp16"), ("channels", "int8"), ("massive", "int8"), ("channels", "fp8")],
)
def test_planted_faults_that_break_naive_tools_are_recovered(
    trained: Digits, tmp_path: Path, fault: str, precision: str
) -> None:
    source = export(getattr(planted, fault)(trained.model), tmp_path / "source.onnx")
    truth = accuracy(logits(source, trained.held_out), trained.labels)
    assert truth > 0.9
    if precision != "fp8":  # ONNX Runtime's tool needs another type of model for it
        assert naive(trained, source, tmp_path / "naive.onnx", precision) < 0.5
    result = quantize(trained, source, tmp_path / "out.onnx", config(precision, fallback=False))
    assert result.path is not None
    assert truth - accuracy(logits(result.path, trained.held_out), trained.labels) <= 0.005


def test_the_block_that_suffers_stays_as_it_is(trained: Digits, tmp_path: Path) -> None:
    source = export(planted.channels(trained.model, blocks=(2,)), tmp_path / "source.onnx")
    # Without smoothing and with whole ranges nothing helps block 2 but leaving it alone.
    chosen = config("int8", smooth=False, calibrator="max", fallback=False)
    recorder = Recorder()
    result = quantize(trained, source, tmp_path / "out.onnx", chosen, progress=recorder)
    assert [attempt.recipe for attempt in result.search.attempts if attempt.recipe != "source"] == [
        "int8, max ranges",
        "int8, max ranges, blocks.2 kept",
    ]
    first, second = result.search.attempts[-2:]
    assert first.reason.endswith("points of top-1 lost")
    assert second.passed
    assert result.path is not None
    kept = {n.name for n in onnx.load(result.path).graph.node if n.op_type == "QuantizeLinear"}
    assert {name.split(".attn")[0].split(".mlp")[0] for name in kept} == {"blocks.0", "blocks.1"}
    assert any("trying int8, max ranges, blocks.2 kept" in line for line in recorder.said)


def test_what_is_not_faster_is_refused_with_its_figures(trained: Digits, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    result = quantize(trained, trained.onnx, output, config("int8", limits=Limits(min_speedup=1000)))
    assert result.path is None
    assert not list(tmp_path.iterdir())
    tried = [attempt for attempt in result.search.attempts if attempt.recipe != "source"]
    assert [attempt.precision for attempt in tried] == ["int8", "fp16", "bf16"]  # one each: more care is slower still
    assert all(attempt.speedup is not None and "1000 asked for" in attempt.reason for attempt in tried)
    with pytest.raises(GateError, match="no lower precision"):
        result.require_found(trained.onnx)


@pytest.mark.parametrize("speedup", [0.9, 1.5])
def test_the_rival_is_the_fastest_source(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speedup: float
) -> None:
    def clock(contenders: dict[str, Any]) -> Turns:
        times = {"fp32": 4.0, "bf16": 2.0, "source fp32": 4.0, "source bf16": 2.0}
        fastest = min(times[name] for name in contenders if name != "candidate")
        return Turns(seconds={name: (times.get(name, fastest / speedup),) * 5 for name in contenders})

    monkeypatch.setattr(judging, "take_turns", clock)
    chosen = config("int8", limits=Limits(min_speedup=1.05), fallback=False)
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", chosen)
    last = result.search.attempts[-1]
    assert last.speedup == pytest.approx(speedup)
    assert (result.path is not None) == (speedup > 1)
    rival = "bf16" if has_native_bf16() else "fp32"
    assert last.passed or last.reason == f"0.90 times as fast as the source {rival}, 1.05 asked for"


def test_without_labels_answers_are_compared(trained: Digits, tmp_path: Path) -> None:
    result = quantized_from_onnx(
        trained.onnx, tmp_path / "out.onnx", calibration=trained.calibration, config=config("fp16")
    )
    assert result.search.images == len(trained.calibration)
    assert result.search.min_agreement == 0.99
    assert result.search.attempts[-1].top1 is None
    assert result.search.attempts[-1].agreement == 1


def test_images_pass_through_a_few_at_a_time(trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(images: Any, spec: Any, **more: Any) -> Any:
        seen.append(len(images))
        return preprocess(images, spec, **more)

    monkeypatch.setattr(judging, "preprocess", counted)
    quantize(trained, trained.onnx, tmp_path / "out.onnx", config("int8"))
    assert max(seen) == IMAGE_BATCH
    assert sum(seen) >= 3 * len(trained.calibration)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"calibration": ()}, "too few calibration images"),
        ({"output": "out.engine"}, "cannot quantize"),
        ({"output": "SOURCE"}, "replace its own source"),
        ({"labels": (1, 2)}, "differ in number"),
        ({"output": "."}, "cannot quantize"),
        ({"source": "INT8"}, "a lower precision already"),
    ],
)
def test_bad_input(trained: Digits, int8: QuantizeResult, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    assert int8.path is not None
    source = int8.path if change.get("source") else trained.onnx
    output = trained.onnx if change.get("output") == "SOURCE" else tmp_path / change.get("output", "out.onnx")
    before = trained.onnx.read_bytes()
    with pytest.raises(OptionError, match=says):
        quantized_from_onnx(
            source,
            output,
            calibration=change.get("calibration", trained.calibration),
            config=config(),
            images=trained.held_out,
            labels=change.get("labels", trained.labels),
        )
    assert trained.onnx.read_bytes() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limits", [{"max_drop": -0.1}, {"min_agreement": 1.5}, {"min_speedup": 0.5}])
def test_limits_that_cannot_be(limits: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        Limits(**limits)


def test_labels_are_matched_by_name(trained: Digits, tmp_path: Path) -> None:
    images, labels = labelled_images(trained.onnx, trained.folder, 50)
    assert len(images) == len(labels) == 50
    assert [Path(str(image)).parent.name for image in images] == [str(label) for label in labels]
    (tmp_path / "eleven").mkdir()
    (tmp_path / "eleven" / "a.png").write_bytes(Path(str(images[0])).read_bytes())
    with pytest.raises(DatasetError, match="a class that"):
        labelled_images(trained.onnx, tmp_path, 50)


def test_the_command_writes_a_report(trained: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "digits.int8.onnx"
    images = str(trained.folder)
    command = ["quantize", str(trained.onnx), "-o", str(output), "--calibration", images, "--data", images]
    assert run([*command, "--no-judge-speed"]) == 0
    said = capsys.readouterr().out
    assert "taken" in said
    assert "digits.int8.onnx" in said
    report = tmp_path / "digits.int8-report"
    search = decode(PrecisionSearch, json.loads((report / "search.json").read_text()))
    assert search == read_spec(output).precision_search
    assert "| int8, mse ranges, smoothed |" in (report / "report.md").read_text()
    assert (report / "accuracy_latency.png").read_bytes().startswith(b"\x89PNG")
    assert run([*command, "--no-judge-speed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["search"]["target"] == "int8"
    output.unlink()
    assert run([*command, "--min-speedup", "1000", "--no-fallback"]) == 1
    assert "deploy" in capsys.readouterr().err
    assert not output.exists()
    assert run([*command, "--to", "int8", "--narrow-io"]) == 2
    assert run([*command, "--to", "fp16", "--no-smooth"]) == 2
    assert run([*command, "--keep", "blocks.9"]) == 2
    assert run([*command[:4], "--calibration", str(tmp_path / "nothing")]) == 2


def test_a_candidate_that_no_runtime_takes_is_an_attempt_and_no_end(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_runtime

    def refusing(path: Any, name: str = "auto", options: Any = None) -> Any:
        if Path(path).name in ("candidate.onnx", "one-block.onnx") and read_spec(path).precision == "int8":
            raise RuntimeFailureError("refused", got="this form")
        return opened(path, name, options)

    monkeypatch.setattr(judging, "open_runtime", refusing)
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", config("int8"))
    tried = [attempt for attempt in result.search.attempts if attempt.recipe != "source"]
    assert [attempt.passed for attempt in tried] == [False] * (len(tried) - 1) + [True]
    assert tried[0].reason == "refused: this form"
    assert tried[-1].precision == "fp16"


def test_queries_too_large_for_fp16_stay_in_fp32_around_8_bits_too(trained: Digits, tmp_path: Path) -> None:
    source = export(planted.queries(trained.model), tmp_path / "source.onnx")
    result = quantize(
        trained,
        source,
        tmp_path / "out.onnx",
        QuantizeConfig(
            recipe=Recipe(precision="int8", around="fp16", split_qkv=True),
            limits=Limits(min_speedup=None),
            fallback=False,
        ),
    )
    assert result.path is not None
    assert len([attempt for attempt in result.search.attempts if attempt.recipe != "source"]) == 1
    assert result.search.attempts[-1].relative_error < 0.3
    assert "too large for fp16" in result.notes[0]
