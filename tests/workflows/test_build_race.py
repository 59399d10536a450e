"""An engine that has to outrun another one, on a stand-in for TensorRT; a clock that the tests set tells the times."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.cuda.fake_cuda import FakeCuda
from tests.tensorrt.conftest import Machine, machine
from tests.workflows.quantize.quantizing import Clock
from vitrify.artifacts import BuildConfig, Profile, read_manifest
from vitrify.cli.app import run
from vitrify.errors import ArtifactError, EngineError, GateError, OptionError
from vitrify.workflows import races
from vitrify.workflows.build import engine_from_manifest, engine_from_onnx
from vitrify.workflows.races import Rival

__all__ = ["machine"]


def config(*profiles: str) -> BuildConfig:
    return BuildConfig(timing_cache="none", profiles=tuple(map(Profile.parse, profiles)))


@pytest.fixture
def standing(machine: Machine, artifact: Path, tmp_path: Path) -> Path:
    """An engine for batches of 1 to 8."""
    return engine_from_onnx(artifact, tmp_path / "standing.engine", config=config("1:4:8")).path


def test_a_faster_engine_is_written_with_what_it_outran(
    standing: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(*[1.5] * 11)
    monkeypatch.setattr(races, "take_turns", clock)
    chosen = config("1:2:8", "4")
    result = engine_from_onnx(artifact, tmp_path / "new.engine", config=chosen, rival=Rival(path=standing))
    assert clock.raced == [["candidate", "standing.engine"]] * 2
    raced = read_manifest(result.path).races
    assert raced == result.manifest.races
    assert [(won.batch, won.rival, won.rival_sha256) for won in raced] == [
        (batch, "standing.engine", read_manifest(standing).plan_sha256) for batch in (2, 4)
    ]
    assert [won.speedup for won in raced] == pytest.approx([1.5, 1.5])


@pytest.mark.parametrize(
    "ratios", [[0.9] * 11, [0.9] * 3 + [1.3] * 8, [1.02] * 11], ids=["slower", "noise", "too little"]
)
def test_one_that_is_not_faster_never_appears(
    standing: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratios: list[float]
) -> None:
    monkeypatch.setattr(races, "take_turns", Clock(*ratios))
    target = tmp_path / "new.engine"
    target.write_bytes(b"what stood here")
    with pytest.raises(GateError, match=r"not faster than .*standing\.engine; nothing was written[\s\S]*batch 4: "):
        engine_from_onnx(artifact, target, config=config("1:4:8"), rival=Rival(path=standing))
    assert target.read_bytes() == b"what stood here"
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        "new.engine", "standing.engine", "standing.engine.json",
    }  # fmt: skip


def test_an_engine_is_replaced_by_a_faster_one_alone(
    standing: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = standing.read_bytes(), read_manifest(standing)
    monkeypatch.setattr(races, "take_turns", Clock(*[0.9] * 11))
    with pytest.raises(GateError, match="not faster"):
        engine_from_manifest(standing, rival=Rival(path=standing))
    assert (standing.read_bytes(), read_manifest(standing)) == before
    monkeypatch.setattr(races, "take_turns", Clock(*[1.2] * 11))
    engine_from_manifest(standing, rival=Rival(path=standing))
    assert read_manifest(standing).races[0].rival_sha256 == before[1].plan_sha256


def test_the_race_is_run_for_real(standing: Path, artifact: Path, tmp_path: Path) -> None:
    """Both are the same engine on the stand-in: what is measured is noise, and 20 times faster it is not."""
    with pytest.raises(GateError, match=r"times as fast as the standing\.engine, 20 asked for"):
        engine_from_onnx(
            artifact, tmp_path / "new.engine", config=config("1:4:8"), rival=Rival(path=standing, min_speedup=20)
        )


def test_what_stands_in_the_way_is_said_before_the_build(
    machine: Machine, standing: Path, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(rival: Path, *profiles: str, **options: tuple[str, ...]) -> None:
        chosen = dataclasses.replace(config(*profiles or ("1:4:8",)), **options)  # type: ignore[arg-type]
        machine.trt.refuse = "a build was begun"
        try:
            engine_from_onnx(artifact, tmp_path / "new.engine", config=chosen, rival=Rival(path=rival))
        finally:
            machine.trt.refuse = ""

    for profiles in (("16",), ("4", "8:16:16")):
        with pytest.raises(OptionError, match=r"does not take every batch size[\s\S]*expected: 16"):
            refused(standing, *profiles)
    with pytest.raises(OptionError, match="expected: an engine, "):
        refused(artifact)
    with pytest.raises(ArtifactError, match="no such file"):
        refused(tmp_path / "missing.engine")
    with pytest.raises(OptionError, match="a speedup below 1 is none"):
        Rival(path=standing, min_speedup=0.9)
    manifest = read_manifest(standing)
    spec = manifest.spec
    for what, other in (
        ("labels", spec.replace(labels=spec.labels[::-1])),
        ("preprocessing", spec.replace(preprocess=dataclasses.replace(spec.preprocess, mean=(0.4, 0.4, 0.4)))),
        ("architectures", spec.replace(source=dataclasses.replace(spec.source, architecture="vit_tiny_patch16_224"))),
        ("checkpoints", spec.replace(source=dataclasses.replace(spec.source, checkpoint_sha256="0" * 64))),
    ):
        (tmp_path / "standing.engine.json").write_text(dataclasses.replace(manifest, spec=other).to_json())
        with pytest.raises(OptionError, match=f"different models: their {what} differ"):
            refused(standing)
    foreign = dataclasses.replace(manifest, tensorrt="10.9.0.1")
    (tmp_path / "standing.engine.json").write_text(foreign.to_json())
    with pytest.raises(EngineError, match="was not built for this machine"):
        refused(standing)
    (tmp_path / "standing.engine.json").write_text(manifest.to_json())
    plan = standing.read_bytes()
    standing.write_bytes(plan + b" ")
    with pytest.raises(EngineError, match="is not the plan that its manifest names"):
        refused(standing)
    standing.write_bytes(plan)
    machine.use(FakeCuda(), "1.7.1.116", "rtx")
    with pytest.raises(OptionError, match="its own GPU alone"):
        refused(standing, compute_capabilities=("12.0",))


def test_the_command_says_what_was_outrun(
    standing: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(races, "take_turns", Clock(*[1.5] * 11))
    command = ["build", str(artifact), "-o", str(tmp_path / "new.engine"), "--timing-cache", "none"]
    command += ["--profile", "1:4:8", "--faster-than", str(standing)]
    assert run(command) == 0
    assert "1.50 times as fast as standing.engine (1.50 in the first quartile)" in capsys.readouterr().out
    assert run([*command[:-2], "--min-speedup", "2"]) == 2
    assert "min_speedup belongs to a race" in capsys.readouterr().err
    monkeypatch.setattr(races, "take_turns", Clock(*[0.5] * 11))
    assert run(command) == 1
    assert "nothing was written" in capsys.readouterr().err
