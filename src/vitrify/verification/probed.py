"""An artifact that is run so that what leaves each part of its network can be seen."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrify.artifacts import ENGINE_SUFFIXES, Artifact, manifest_path
from vitrify.cuda import gpu_or_none
from vitrify.errors import ArtifactError, DeviceError, EngineError, OptionError
from vitrify.precision import graph_for_engine
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import Array, Runtime, RuntimeRow, check_outputs, infer_outputs, open_runtime
from vitrify.spec import ModelSpec, golden_recipe_batch
from vitrify.tensorrt import build_plan, load_tensorrt


@dataclass(frozen=True, kw_only=True)
class Probed:
    """An open artifact, with its parts as further outputs.

    Attributes:
        runtime: Open; its outputs are the logits and the parts.
        plain: The same artifact without the probes, where they may change what a runtime fuses; else `runtime` itself.
        spec: The artifact's.
        outputs: A part's name to its output's, in the network's order.
    """

    runtime: Runtime
    plain: Runtime
    spec: ModelSpec
    outputs: dict[str, str]

    def infer(self, tensors: npt.NDArray[np.float32]) -> tuple[dict[str, Array], Array, Array]:
        """Runs one batch.

        Args:
            tensors: `[B, 3, H, W]` float32.

        Returns:
            Each part's tensor, `[B, ...]`; the logits of the same run; the logits of the run without probes.
        """
        answers = infer_outputs(self.runtime, self.spec, tensors)
        logits = answers[self.spec.output.name]
        plain = (
            logits
            if self.plain is self.runtime
            else infer_outputs(self.plain, self.spec, tensors)[self.spec.output.name]
        )
        return {part: answers[name] for part, name in self.outputs.items() if name in answers}, logits, plain


@contextlib.contextmanager
def open_probed(
    path: Path, row: RuntimeRow, options: Mapping[str, Any], *, progress: Progress = SILENT
) -> Iterator[Probed]:
    """Opens an artifact with its parts as outputs. An ONNX file and an engine are opened a second time without.

    Args:
        path: An ONNX file, a checkpoint or an engine.
        row: The runtime.
        options: How to run it; those that the runtime does not understand are meant for others.
        progress: Told of an engine's build.

    Raises:
        OptionError: The graph's nodes do not tell which part they belong to.
        ArtifactError, SpecError: The artifact cannot be used.
        EngineError, DeviceError, BuildError: The engine cannot be built again with its parts as outputs.
        RuntimeFailureError: The runtime refuses it.
    """
    options = row.understood(**options)
    if row.name == "torch":
        from vitrify.runtimes.torch_parts import TorchPartsRuntime

        with TorchPartsRuntime(path, row.options(**options)) as runtime:
            names = [info.name for info in runtime.describe().outputs[1:]]
            yield Probed(
                runtime=runtime, plain=runtime, spec=runtime.spec, outputs=dict(zip(names, names, strict=True))
            )
        return
    if not path.is_file():
        raise ArtifactError(f"no such file: {path}", hint="check the path")
    with TemporaryDirectory(prefix="vitrify-layers-") as folder, open_runtime(path, row.name, **options) as plain:
        check_outputs(plain, plain.spec)
        if path.suffix in ENGINE_SUFFIXES:
            target, parts = _probed_engine(path, Path(folder), progress)
        else:
            target = Path(folder) / path.name
            parts = _write_probed(path, target)
        with open_runtime(target, row.name, **options) as runtime:
            # Runtimes give a tensor that has two names either of them, and keep the order.
            names = [info.name for info in runtime.describe().outputs]
            given = dict(zip(_outputs(target, parts), names, strict=False))
            ordered = {part: name if name in names else given.get(name, name) for part, name in parts.items()}
            yield Probed(runtime=runtime, plain=plain, spec=plain.spec, outputs=ordered)


def _outputs(target: Path, parts: dict[str, str]) -> list[str]:
    if target.suffix != ".onnx":
        return list(parts.values())
    import onnx

    return [value.name for value in onnx.load(target, load_external_data=False).graph.output]


def _write_probed(source: Path, target: Path) -> dict[str, str]:
    import onnx

    from vitrify.graphs.rewrites.probes import probed_model

    model, parts = probed_model(onnx.load_from_string(Artifact.open(source).content))
    if not parts:
        raise OptionError(
            f"the parts of {source} cannot be told apart",
            got="nodes without the names of PyTorch modules",
            expected="names such as blocks.3.mlp.fc1/MatMul_41, as vitrify export writes them",
            hint="export the checkpoint with vitrify export, or compare the logits alone: leave --layers out",
        )
    onnx.save(model, target)
    return parts


def _probed_engine(path: Path, folder: Path, progress: Progress) -> tuple[Path, dict[str, str]]:
    """A plan has no inner outputs: its source is built a second time with the same options."""
    manifest = Artifact.open(path).manifest
    source = manifest.find_onnx(path)
    if source is None:
        raise EngineError(
            f"the parts of {path} cannot be seen without the ONNX file that it was built from",
            got=f"no {manifest.onnx_path(path)} with the same bytes",
            expected=f"{Path(manifest.onnx).name} beside the engine, with sha256 {manifest.onnx_sha256[:12]}…",
            hint="put it there, or build the engine again",
        )
    gpu = gpu_or_none()
    if gpu is None:  # open_runtime has refused before; a plan must not be built for a GPU that is gone
        raise DeviceError("an engine with its parts as outputs needs the GPU", hint=f"compare {source} instead")
    probed = folder / source.name
    parts = _write_probed(source, probed)
    trt = load_tensorrt(manifest.flavour)
    progress.say(f"building {path.name} a second time, with its parts as outputs")
    spec, config = Artifact.open(source).spec, manifest.config
    graph, typed = graph_for_engine(
        probed.read_bytes(),
        spec,
        config.precision,
        trt.release,
        batches=lambda: [golden_recipe_batch(spec.input_shape)],
        progress=progress,
    )
    built = build_plan(graph, typed, config, trt=trt, gpu=gpu, progress=progress)
    plan = folder / path.name
    plan.write_bytes(built.plan)
    again = dataclasses.replace(
        manifest,
        onnx=probed.name,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        plan_bytes=len(built.plan),
        audit=built.audit,
        verification=None,
    )
    manifest_path(plan).write_text(again.to_json(), encoding="utf-8")
    return plan, parts
