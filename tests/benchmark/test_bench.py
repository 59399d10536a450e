"""`bench` on a runtime whose times, errors and memory are known, and on real artifacts."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from matplotlib.figure import Figure
from onnx import numpy_helper
from PIL import Image
from rich.console import Console

from tests.benchmark import stub
from tests.conftest import tiny_spec
from tests.inspection.test_network import by_hand
from vitrify.benchmark import (
    BENCH_FORMAT,
    BenchConfig,
    BenchReport,
    LoadCost,
    bench,
    bench_picture,
    pictures,
    read_report,
    roofline_of,
    running,
    stages,
    timing_of,
    write_report,
)
from vitrify.benchmark import contenders as contenders_module
from vitrify.benchmark.report import arithmetic_of
from vitrify.cli.bench_tables import bench_tables
from vitrify.errors import ArtifactError, OptionError, RuntimeFailureError, SpecError
from vitrify.graphs import GraphCost, graph_cost
from vitrify.runtimes import registry
from vitrify.spec import Precision
from vitrify.timing import Peaks, Turns

PEAKS = Peaks(flops_per_s=1e11, bytes_per_s=1e10, threads=2)
QUICK = BenchConfig(batches=(1,), rounds=8, budget_s=20.0)


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (*registry.RUNTIMES, stub.ROW)
    monkeypatch.setattr(registry, "RUNTIMES", rows)
    monkeypatch.setattr(contenders_module, "RUNTIMES", rows)
    monkeypatch.setattr(contenders_module, "Artifact", stub.Door)
    monkeypatch.setattr(running, "measure_peaks", lambda _threads: PEAKS)


def test_known_times_errors_and_memory(tmp_path: Path) -> None:
    spec = tiny_spec()
    slow = stub.write_stub(tmp_path / "slow.stub", spec, sleep_ms=30)
    quick = stub.write_stub(tmp_path / "quick.stub", spec, sleep_ms=10, offset=5e-5, memory_mb=200)
    report = bench([slow, quick], config=dataclasses.replace(QUICK, batches=(1, 4)))
    first, second, _, fourth = report.rows
    assert report.passed
    assert [(row.artifact, row.batch) for row in report.rows] == [
        (str(slow), 1), (str(quick), 1), (str(slow), 4), (str(quick), 4),
    ]  # fmt: skip
    assert first.timing is not None
    assert second.timing is not None
    assert fourth.timing is not None
    assert first.timing.median_ms >= 30
    assert second.timing.median_ms >= 10
    assert first.timing.times_as_fast == pytest.approx((1, 1, 1))
    assert 1.8 < second.timing.times_as_fast[1] < 3.2  # 30 over 10, and what else takes time
    assert second.timing.compared_to == "slow.stub stub fp32"
    assert fourth.timing.images_per_s == pytest.approx(4e3 / fourth.timing.median_ms)
    assert second.check is not None
    assert second.check.max_absolute_error == pytest.approx(5e-5, rel=0.05)
    assert second.compared_with == "slow.stub in stub fp32"
    assert first.compared_with == "its golden vectors"  # nothing is compared with itself
    assert first.load is not None
    assert second.load is not None
    assert second.load.peak_bytes - second.load.base_bytes >= 200 << 20
    assert first.load.peak_bytes - first.load.base_bytes < 100 << 20  # the other's memory is not in it
    assert second.load.first_inference_ms >= 10
    assert report.machine.versions["stub"] == "1"
    assert [(verdict.fastest, verdict.than, verdict.told) for verdict in report.verdicts] == [
        ("quick.stub stub fp32", "slow.stub stub fp32", True)
    ] * 2  # 10 ms and 30: every round of 8 says so
    assert report.verdict.startswith("quick.stub stub fp32 is ")
    assert " times as fast as slow.stub stub fp32 at batch 1 (quartiles " in report.verdict


def test_no_times_without_the_right_answers(tmp_path: Path) -> None:
    good = stub.write_stub(tmp_path / "good.stub", tiny_spec())
    wrong = stub.write_stub(tmp_path / "wrong.stub", tiny_spec(), offset=0.01)
    broken = stub.write_stub(tmp_path / "broken.stub", tiny_spec(), fail=True)
    crashing = stub.write_stub(tmp_path / "crashing.stub", tiny_spec(), crash=True)
    report = bench([wrong, broken, crashing, good], config=dataclasses.replace(QUICK, reference=good))
    rows = {Path(row.artifact).name: row for row in report.rows}
    assert [name for name, row in rows.items() if row.timing is not None] == ["good.stub"]
    check = rows["wrong.stub"].check
    assert check is not None
    assert check.max_absolute_error == pytest.approx(0.01, rel=1e-3)
    assert "gate" in rows["wrong.stub"].problem
    assert rows["broken.stub"].problem == "the stub refuses (because it was told to)"
    assert "ended with 11" in rows["crashing.stub"].problem
    assert rows["broken.stub"].check is None
    assert not report.passed
    assert report.verdicts == ()
    assert report.verdict == "nothing to compare: 1 of the contenders has times"
    # The first row has no times: the ratio is to the first that has.
    timing = rows["good.stub"].timing
    assert timing is not None
    assert timing.compared_to == "good.stub stub fp32"


def test_golden_vectors_where_nothing_is_fp32(tmp_path: Path) -> None:
    spec = dataclasses.replace(tiny_spec(), precision="int8")
    right = stub.write_stub(tmp_path / "right.stub", spec, offset=0.01)
    wrong = stub.write_stub(tmp_path / "wrong.stub", spec, offset=2.0)
    bare = stub.write_stub(tmp_path / "bare.stub", spec, golden=False)
    report = bench([right, wrong, bare], config=QUICK)
    one, two, three = report.rows
    assert one.arithmetic == "int8"
    assert one.timing is not None
    assert two.timing is three.timing is None
    assert three.problem.startswith("nothing to compare it with")
    with pytest.raises(OptionError, match="not in fp32"):
        bench([right], config=dataclasses.replace(QUICK, reference=right))


def test_others_go_on_where_the_first_does_not_run(tmp_path: Path) -> None:
    broken = stub.write_stub(tmp_path / "broken.stub", tiny_spec(), fail=True)
    good = stub.write_stub(tmp_path / "good.stub", tiny_spec())
    near = stub.write_stub(tmp_path / "near.stub", tiny_spec(), offset=5e-5)
    report = bench([broken, good, near], config=QUICK)
    assert report.reference == "good.stub in stub fp32"
    assert [row.timing is not None for row in report.rows] == [False, True, True]
    with pytest.raises(RuntimeFailureError, match="the stub refuses"):
        bench([good], config=dataclasses.replace(QUICK, reference=broken))
    other = stub.write_stub(tmp_path / "other.stub", tiny_spec(("a", "b")))
    with pytest.raises(OptionError, match="labels differ"):
        bench([good], config=dataclasses.replace(QUICK, reference=other))


def test_refusals(tmp_path: Path, artifact: Path) -> None:
    one = stub.write_stub(tmp_path / "one.stub", tiny_spec())
    other = stub.write_stub(tmp_path / "other.stub", tiny_spec(("a", "b")))
    with pytest.raises(OptionError, match="labels differ"):
        bench([one, other], config=QUICK)
    with pytest.raises(OptionError, match="no runtime is called 'onnx'"):
        bench([artifact], config=dataclasses.replace(QUICK, runtimes=("onnx",)))
    with pytest.raises(OptionError, match="nothing is left to time"):
        bench([artifact], config=dataclasses.replace(QUICK, runtimes=("onnxruntime",), precisions=("bf16",)))
    with pytest.raises(OptionError, match="two artifacts are called"):
        bench([artifact, artifact], config=QUICK)
    with pytest.raises(ArtifactError, match="no such file"):
        bench([tmp_path / "gone.onnx"], config=QUICK)
    with pytest.raises(OptionError, match="positive"):
        BenchConfig(batches=(0,))
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    with pytest.raises(OptionError, match="none of the images can be read"):
        bench([one], images=[text], config=QUICK)


def test_real_artifacts_with_images(artifact: Path, photos: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(artifact.read_bytes()[:4000])
    bad = tmp_path / "bad.jpg"
    bad.write_text("no image")
    images = [*sorted(photos.rglob("*.*g"))[:6], bad]
    config = dataclasses.replace(QUICK, runtimes=("onnxruntime", "openvino"), precisions=("fp32",), batches=(1, 3))
    report = bench([artifact, damaged], images=images, config=config)
    good = [row for row in report.rows if row.artifact == str(artifact)]
    assert all(row.timing is not None and row.roofline is not None for row in good)
    assert all(row.problem and row.timing is None for row in report.rows if row not in good)
    by_runtime = {row.runtime: row for row in good if row.batch == 3}
    check = by_runtime["openvino"].check
    assert check is not None
    assert (check.inputs, check.count, check.top1_agreement) == ("images", 6, 1.0)
    assert "1 of 7 images cannot be read" in report.notes[0]
    assert [stage.name for stage in report.stages] == ["tiny.onnx openvino fp32", "tiny.onnx onnxruntime fp32"]
    for stage in report.stages:
        assert stage.images == 6
        assert min(stage.read_ms, stage.preprocess_ms, stage.decode_alone_ms, stage.inference_ms, stage.post_ms) > 0
        parts = (stage.read_ms, stage.preprocess_ms, stage.inference_ms, stage.post_ms)
        assert stage.total_ms == pytest.approx(sum(parts))
    path = tmp_path / "bench.json"
    write_report(report, path)
    assert read_report(path) == report
    assert_stages_add_up(report)
    bench_picture(report, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    formula = tuple(dataclasses.replace(row, artifact=r"$\frac{x$.onnx") for row in report.rows)
    bench_picture(dataclasses.replace(report, rows=formula), tmp_path / "bench.png")


def assert_stages_add_up(report: BenchReport) -> None:
    """In the picture: each bar ends where its total says."""
    axes = Figure().subplots(1, 1)
    pictures._stages(axes, report)
    ends = [max(bar.get_x() + bar.get_width() for bar in row) for row in zip(*axes.containers, strict=True)]
    written = [text.get_text() for text in axes.texts]
    assert ends == pytest.approx([stage.total_ms for stage in report.stages])
    assert written == [f"{end:.3g} ms" for end in ends]


def test_what_holds_one_image_up_is_no_part_of_the_stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of 8 images two are held up, in different stages: medians would give 1 + 1 + 1 + 1 for a total of 5."""
    image = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(image)
    times = iter(
        [(9.0,) * 4] * 2 + [(1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.5)] * 3 + [(50.0, 1, 1, 1), (1, 1, 70.0, 1)]
    )
    monkeypatch.setattr(stages, "_one", lambda *_: next(times))
    runtime: Any = SimpleNamespace()
    (found,) = stages.time_stages({"a": runtime}, [image] * 8)
    # Sorted by their sums: three of 10, three of 10.5, the two. The middle half is one of 10 and three of 10.5.
    assert (found.read_ms, found.preprocess_ms, found.inference_ms) == pytest.approx((1, 2, 3))
    assert found.post_ms == pytest.approx((4 + 3 * 4.5) / 4)
    assert found.total_ms == pytest.approx((10 + 3 * 10.5) / 4)
    assert found.images == 8


@pytest.mark.parametrize(
    ("graph", "asked", "told"),
    [
        ("fp32", "fp32", ("fp32", "")), ("fp32", "bf16", ("bf16", "")), ("fp16", "fp32", ("fp16", "")),
        ("fp16", "bf16", ("bf16", "")), ("int8", "fp32", ("int8", "")), ("int8", "bf16", ("int8", "bf16")),
        ("fp8", "fp16", ("fp8", "fp16")),
    ],
)  # fmt: skip
def test_what_a_row_computes_in(graph: Precision, asked: Precision, told: tuple[str, str]) -> None:
    assert arithmetic_of(graph, asked) == told


def test_an_int8_graph_asked_for_bf16_says_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub.StubRuntime, "precisions", ("fp32", "bf16"))
    cost = LoadCost(load_ms=1.0, first_inference_ms=1.0, base_bytes=1, peak_bytes=2)
    monkeypatch.setattr(running, "measure_load", lambda *_, **__: cost)  # another process has the class as it is
    graph = stub.write_stub(tmp_path / "graph.stub", dataclasses.replace(tiny_spec(), precision="int8"))
    report = bench([graph], config=dataclasses.replace(QUICK, precisions=("fp32", "bf16")))
    assert [(row.precision, row.arithmetic, row.around) for row in report.rows] == [
        ("fp32", "int8", ""), ("bf16", "int8", "bf16"),
    ]  # fmt: skip
    with (console := Console(width=200, file=io.StringIO())).capture() as text:
        console.print(next(iter(bench_tables(report))))
    assert "int8, bf16 around" in text.get()


def test_what_is_no_report(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    for text in ("nonsense", "[]", '{"format": 99}'):
        path.write_text(text)
        with pytest.raises(ArtifactError, match="no report"):
            read_report(path)
    path.write_text(json.dumps({"format": BENCH_FORMAT, "date": "today"}))
    with pytest.raises(SpecError, match="bench report"):
        read_report(path)


def test_the_cost_of_a_graph_by_hand(artifact: Path) -> None:
    cost = graph_cost(artifact)
    assert cost.flops == by_hand(tokens=17, width=64, patch=8, classes=6, depth=2)[1]
    weights = onnx.load(artifact).graph.initializer
    assert cost.weight_bytes == sum(numpy_helper.to_array(weight).nbytes for weight in weights)
    assert cost.io_bytes == 4 * (3 * 32 * 32 + 6)


def test_shares_of_the_peaks_by_hand() -> None:
    cost = GraphCost(flops=10**9, weight_bytes=10**8, io_bytes=10**6)
    # 4 GFLOP in 80 ms is 50 GFLOP/s of 100; 104 MB in 80 ms is 1.3 GB/s of 10.
    roof = roofline_of(cost, PEAKS, batch=4, seconds=0.08)
    assert (roof.flops, roof.bytes) == (4 * 10**9, 104 * 10**6)
    assert (roof.of_peak_flops, roof.of_peak_bandwidth) == pytest.approx((0.5, 0.13))
    assert roof.of_roofline == roof.of_peak_flops


def test_percentiles_by_numpy() -> None:
    times = tuple(np.random.default_rng(1).random(101))
    timing = timing_of(Turns(seconds={"a": times}), "a", batch=2, first="a")
    ranked = sorted(times)
    assert timing.median_ms == pytest.approx(1e3 * ranked[50])
    assert timing.quartiles_ms == pytest.approx((1e3 * ranked[25], 1e3 * ranked[75]))
    assert (timing.p90_ms, timing.p99_ms) == pytest.approx((1e3 * ranked[90], 1e3 * ranked[99]))
