"""The search for a lower precision, on a model that reads digits."""

from __future__ import annotations

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
from tests.workflows.quantize.quantizing import candidates, config, quantize
from tests.workflows.test_export import Recorder
from vitrify.artifacts import read_spec
from vitrify.classifier import pick_evenly
from vitrify.errors import RuntimeFailureError
from vitrify.pixels import preprocess
from vitrify.precision import Recipe
from vitrify.runtimes import open_runtime
from vitrify.verification import verify_artifact
from vitrify.workflows.quantize import Limits, QuantizeConfig, QuantizeResult, judge, quantized_from_onnx
from vitrify.workflows.quantize.judge import IMAGE_BATCH


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
    assert [attempt.recipe for attempt in candidates(int8)] == ["int8, mse ranges, smoothed"]
    assert [note.split(":")[0] for note in int8.notes] == ["of 300 answers 0 were lost and 0 gained"]
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
    assert [attempt.recipe for attempt in candidates(result)] == [
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


def test_attention_that_suffers_in_every_block_stays_out(trained: Digits, tmp_path: Path) -> None:
    source = export(planted.channels(trained.model, norms=("norm1",)), tmp_path / "source.onnx")
    chosen = config("int8", smooth=False, calibrator="max", fallback=False)
    result = quantize(trained, source, tmp_path / "out.onnx", chosen)
    tried = candidates(result)
    assert [attempt.passed for attempt in tried] == [False, False, True]
    assert tried[-1].recipe == "int8, max ranges, attention kept"
    assert result.path is not None
    quantized = {n.name.rpartition("/")[0] for n in onnx.load(result.path).graph.node if n.op_type == "QuantizeLinear"}
    assert quantized == {f"blocks.{block}.mlp.{layer}" for block in range(3) for layer in ("fc1", "fc2")}


def test_the_source_is_asked_once_and_the_record_has_its_answers(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []

    def spied(path: Any, name: str = "auto", **options: Any) -> Any:
        opened.append((Path(path).name, name))
        return open_runtime(path, name, **options)

    monkeypatch.setattr(judge, "open_runtime", spied)
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", config("int8", runtime="onnxruntime"))
    assert opened.count((trained.onnx.name, "onnxruntime")) == 1
    assert result.spec is not None
    assert result.spec.verification is not None
    assert {"onnxruntime", "vitrify"} <= result.spec.verification.versions.keys()
    picked = pick_evenly(trained.held_out, judge.VERIFIED_IMAGES)
    error = np.abs(logits(tmp_path / "out.onnx", picked) - logits(trained.onnx, picked)).max()
    checks = [c for c in result.spec.verification.checks if (c.runtime, c.inputs) == ("onnxruntime", "images")]
    assert [check.count for check in checks] == [len(picked)]
    assert checks[0].max_absolute_error == pytest.approx(error, rel=0.05)


def test_measuring_keeps_to_the_threads_that_were_asked_for(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    session = onnxruntime.InferenceSession

    def spied(model: Any, options: Any, **more: Any) -> Any:
        threads.append(options.intra_op_num_threads)
        return session(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spied)
    # Channels, histograms and magnitudes are measured, each by a session of its own.
    chosen = config("int8", around="fp16", runtime="onnxruntime", threads=1)
    quantize(trained, trained.onnx, tmp_path / "out.onnx", chosen)
    assert len(threads) >= 3 + 2
    assert set(threads) == {1}


def test_without_labels_answers_are_compared(trained: Digits, tmp_path: Path) -> None:
    result = quantized_from_onnx(
        trained.onnx, tmp_path / "out.onnx", calibration=trained.calibration, config=config("fp16")
    )
    assert result.search.images == len(trained.calibration) == 96
    assert "calibration images themselves" in result.notes[0]
    assert result.notes[1].startswith("of 96 answers 0 were lost: with 80% confidence no more than 1.7% is lost")
    assert "about 180 images like these would tell" in result.notes[1]
    assert result.search.min_agreement == 0.99
    assert result.search.attempts[-1].top1 is None
    assert result.search.attempts[-1].agreement == 1


def test_images_pass_through_a_few_at_a_time_and_are_decoded_once(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def counted(images: Any, spec: Any, **more: Any) -> Any:
        seen.append(len(images))
        return preprocess(images, spec, **more)

    monkeypatch.setattr(judge, "preprocess", counted)
    quantize(trained, trained.onnx, tmp_path / "out.onnx", config("int8"))
    assert max(seen) == IMAGE_BATCH
    assert sum(seen) == len(trained.calibration) + len(trained.held_out)
    seen.clear()
    quantize(trained, trained.onnx, tmp_path / "again.onnx", config("int8", crop_bytes=0))
    assert sum(seen) >= 2 * len(trained.calibration) + 2 * len(trained.held_out)


def test_a_candidate_that_no_runtime_takes_is_an_attempt_and_no_end(
    trained: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_runtime

    def refusing(path: Any, name: str = "auto", **options: Any) -> Any:
        if Path(path).name in ("candidate.onnx", "one-block.onnx") and read_spec(path).precision == "int8":
            raise RuntimeFailureError("refused", got="this form")
        return opened(path, name, **options)

    monkeypatch.setattr(judge, "open_runtime", refusing)
    result = quantize(trained, trained.onnx, tmp_path / "out.onnx", config("int8"))
    tried = candidates(result)
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
    assert len(candidates(result)) == 1
    assert (result.search.attempts[-1].relative_error or 1) < 0.3
    assert "too large for fp16" in result.notes[0]
