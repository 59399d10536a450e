"""A runtime whose times, errors and memory are known: a `.stub` file says how long it sleeps and how far off it is."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import Artifact
from vitrify.errors import RuntimeFailureError
from vitrify.runtimes import Array, Runtime, RuntimeRow, Signature, TensorInfo
from vitrify.spec import ModelSpec, golden_recipe_batch, golden_vectors

ROW = RuntimeRow("stub", "tests.benchmark.stub:StubRuntime", (".stub",), "numpy")


def answers(tensors: npt.NDArray[np.float32], classes: int) -> npt.NDArray[np.float32]:
    """What is right: random weights, always the same."""
    flat = tensors.reshape(len(tensors), -1)
    weights = np.random.default_rng(7).standard_normal((flat.shape[1], classes)) / np.sqrt(flat.shape[1])
    right: npt.NDArray[np.float32] = (flat.astype(np.float64) @ weights).astype(np.float32)
    return right


def write_stub(path: Path, spec: ModelSpec, *, golden: bool = True, **behaviour: Any) -> Path:
    """A file for `StubRuntime`."""
    if golden:
        right = answers(golden_recipe_batch(spec.input_shape), len(spec.labels))
        spec = dataclasses.replace(spec, golden=golden_vectors(right))
    path.write_text(json.dumps({"spec": spec.to_json(), **behaviour}))
    return path


class Door(Artifact):
    """Opens stubs beside true artifacts."""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Artifact:
        path = Path(path)
        return cls(path, "onnx", None) if path.suffix == ".stub" and path.exists() else Artifact.open(path)

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec.from_json(json.loads(self.path.read_text())["spec"])


class StubRuntime(Runtime):
    """Keys: sleep_ms, offset (added to every logit), memory_mb, fail, crash."""

    name = "stub"

    def _open(self) -> None:
        self._told: dict[str, Any] = json.loads(self.path.read_text())
        if self._told.get("crash"):
            os._exit(11)
        if self._told.get("fail"):
            raise RuntimeFailureError("the stub refuses", got="because it was told to")
        self._held = np.ones(int(self._told.get("memory_mb", 0)) << 20, np.uint8)

    def _close(self) -> None:
        del self._held

    @property
    def artifact(self) -> Artifact:
        return Door.open(self.path)

    def _describe(self) -> Signature:
        spec = self.spec
        return Signature(
            inputs=(TensorInfo(name=spec.input.name, dtype="float32", shape=(None, *spec.input_shape)),),
            outputs=(TensorInfo(name=spec.output.name, dtype="float32", shape=(None, len(spec.labels))),),
        )

    def _infer(self, batch: dict[str, Array]) -> dict[str, Array]:
        time.sleep(self._told.get("sleep_ms", 0) / 1e3)
        spec = self.spec
        right = answers(batch[spec.input.name], len(spec.labels))
        return {spec.output.name: right + np.float32(self._told.get("offset", 0))}

    def versions(self) -> dict[str, str]:
        return {"stub": "1"}
