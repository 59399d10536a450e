"""`vitrify export`: a checkpoint to a verified, self-describing ONNX file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from vitrify import __version__
from vitrify.checkpoints import Checkpoint, Overrides, load_checkpoint, spec_from_checkpoint
from vitrify.conversion import EXPORTERS, OPSET, OPSETS, check_form, simplify
from vitrify.errors import GateError, OptionError, StorageError, VitrifyError
from vitrify.files import no_room, sha256_of
from vitrify.graphs import place_artifact, write_artifact
from vitrify.pixels import ImageSource
from vitrify.progress import SILENT, Progress
from vitrify.runtimes import has_native_bf16, open_runtime, runtimes_for
from vitrify.spec import (
    Check,
    ModelSpec,
    Precision,
    Result,
    Source,
    Verification,
    gate_for,
    golden_recipe_batch,
    golden_vectors,
)
from vitrify.verification import (
    Answered,
    Candidate,
    Infer,
    Logits,
    SideBySide,
    answer,
    describe,
    infer_with,
    judge,
    record,
    side_by_side,
    standard_probes,
)


@dataclass(frozen=True, kw_only=True)
class ExportResult(Result):
    """What an export did.

    Attributes:
        path: The artifact.
        spec: What it carries.
        exporter: Which of PyTorch's exporters made it.
        size_bytes: Of the file.
        answers: One input's probabilities in every runtime.
        notes: Decisions that were taken for the user.
    """

    path: Path
    spec: ModelSpec
    exporter: str
    size_bytes: int
    answers: SideBySide
    notes: tuple[str, ...]

    @property
    def verification(self) -> Verification:
        """What was measured."""
        assert self.spec.verification is not None
        return self.spec.verification


def onnx_from_checkpoint(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    images: Sequence[ImageSource] = (),
    labels: tuple[str, ...] | None = None,
    exporter: str = "auto",
    opset: int = OPSET,
    overrides: Overrides | None = None,
    progress: Progress = SILENT,
) -> ExportResult:
    """Exports, simplifies, verifies in every runtime at hand, and only then lets the file appear.

    Args:
        checkpoint: Weights in any dialect that `load_checkpoint` reads.
        output: The ONNX file.
        images: Real images to compare on; bf16 is judged, and later used by `auto`, only with at least 32 of them.
        labels: One name a class, where the checkpoint does not tell.
        exporter: `auto` tries dynamo and then torchscript; or one of them.
        opset: 18, or 16 for TensorRT 8.5, which torchscript alone writes.
        overrides: What the user decides about the checkpoint.
        progress: Told of each step.

    Raises:
        CheckpointError: The checkpoint cannot be read or understood.
        OptionError: Wrong labels or another suffix than `.onnx`.
        GateError: No exporter gave a graph with PyTorch's answers; nothing was written.
        StorageError: The file cannot be written; what stood there is still there.
    """
    output = Path(output)
    if output.suffix != ".onnx":
        raise OptionError(f"cannot export to {output}", got=f"the suffix {output.suffix!r}", expected=".onnx")
    if exporter != "auto" and exporter not in EXPORTERS:
        raise OptionError(f"no exporter is called {exporter!r}", expected=", ".join(["auto", *EXPORTERS]))
    if opset not in OPSETS or (opset != OPSET and exporter == "dynamo"):
        raise OptionError(
            f"cannot export opset {opset} with {exporter}", expected="18, or 16 with torchscript", hint="leave both out"
        )
    names = ("torchscript",) if opset != OPSET else tuple(EXPORTERS) if exporter == "auto" else (exporter,)
    loaded = load_checkpoint(checkpoint, overrides=overrides or Overrides(), progress=progress)
    reference = _torch_infer(loaded.model)
    spec = _described(loaded, Path(checkpoint), labels, reference)
    truths = answer(reference, standard_probes(spec, images), progress=progress)
    layer_norms = _count_layer_norms(loaded.model, spec)

    failures: list[str] = []
    for name in names:
        progress.say(f"exporting with {name}")
        try:
            proto = simplify(EXPORTERS[name](loaded.model, spec, opset))
            check_form(proto, spec, layer_norms=layer_norms, opset=opset)
            checks, versions, columns = _judge(proto, spec, reference, truths, progress)
            failed = [check for check in checks if not check.passed and check.precision == "fp32"]
            if failed:
                raise GateError("fp32 gate", got="; ".join(map(describe, failed)))
        except Exception as error:  # whatever an exporter or a runtime raises, the next exporter may do better
            if no_room(error):
                raise StorageError(
                    "cannot write the graph that is to be compared",
                    got=error.strerror if isinstance(error, OSError) else error,
                    hint="free space in the folder for temporary files (TMPDIR)",
                ) from error
            failures.append(f"{name}: {_reason(error)}")
            progress.say(f"{name} failed: {_reason(error)}")
            continue
        final = spec.replace(verification=record("torch fp32", checks, versions))
        place_artifact(proto, final, output)
        return ExportResult(
            path=output,
            spec=final,
            exporter=name,
            size_bytes=output.stat().st_size,
            answers=side_by_side(_sample_name(images), spec, columns),
            notes=loaded.notes,
        )
    raise GateError(
        f"no exporter made a graph of {checkpoint} that gives PyTorch's answers; nothing was written",
        got="\n       ".join(failures),
        hint="report this architecture together with the lines above",
    )


def _described(loaded: Checkpoint, path: Path, labels: tuple[str, ...] | None, reference: Infer) -> ModelSpec:
    spec = spec_from_checkpoint(loaded, labels=labels)
    source = loaded.source
    return spec.replace(
        source=Source(
            architecture=source.architecture,
            model_kwargs=source.model_kwargs,
            checkpoint=path.name,
            checkpoint_sha256=sha256_of(path) if path.is_file() else source.checkpoint_sha256,
            dialect=source.dialect,
            created_by=f"vitrify {__version__}",
        ),
        golden=golden_vectors(reference(golden_recipe_batch(spec.input_shape))),
        verification=None,
    )


def _torch_infer(model: nn.Module) -> Infer:
    model.eval()

    def infer(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = model(torch.from_numpy(batch)).float().numpy()
        return logits

    return infer


def _count_layer_norms(model: nn.Module, spec: ModelSpec) -> int:
    # Counted while running: a module that is there need not be used.
    calls: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: calls.append(module))
        for module in model.modules()
        if isinstance(module, nn.LayerNorm)
    ]
    try:
        with torch.inference_mode():
            model(torch.zeros(1, *spec.input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return len(calls)


def _judge(
    proto: onnx.ModelProto, spec: ModelSpec, reference: Infer, truths: Sequence[Answered], progress: Progress
) -> tuple[tuple[Check, ...], dict[str, str], dict[str, Logits]]:
    """Runs the graph in every runtime at hand, and one sample of it for the side-by-side table."""
    checks: list[Check] = []
    versions = {"torch": torch.__version__, "onnx": onnx.__version__}
    real = tuple(truth for truth in truths if truth.inputs == "images")
    sample = (real or truths)[0].probe.tensors[:1]
    columns = {"torch fp32": reference(sample)}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"
        write_artifact(proto, spec, path)
        for runtime_name, precision in _to_judge(path, real):
            with open_runtime(path, runtime_name, precision=precision) as runtime:
                versions |= runtime.versions()
                candidate = Candidate(
                    runtime=runtime_name, precision=precision, infer=infer_with(runtime, spec), gate=gate_for(precision)
                )
                # Noise has no margin between its classes, so that a reduced precision is judged on real images alone.
                checks += judge(candidate, truths if precision == "fp32" else real, progress=progress)
                columns[f"{runtime_name} {precision}"] = candidate.infer(sample)
    return tuple(checks), versions, columns


def _to_judge(path: Path, real: Sequence[Answered]) -> list[tuple[str, Precision]]:
    exact: list[tuple[str, Precision]] = [(row.name, "fp32") for row in reversed(runtimes_for(path))]
    return [*exact, ("openvino", "bf16")] if real and has_native_bf16() else exact


def _sample_name(images: Sequence[ImageSource]) -> str:
    if not images:
        return "golden vector 1"
    return os.fspath(images[0]) if isinstance(images[0], str | os.PathLike) else "the first image"


def _reason(error: Exception) -> str:
    if isinstance(error, VitrifyError):
        return f"{error.what}: {error.got}" if error.got else error.what
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads class names, one a line, in the order of the logits; blank lines at the end do not count.

    Raises:
        OptionError: The file cannot be read, is empty, or names a class twice.
    """
    try:
        labels = tuple(Path(path).read_text(encoding="utf-8").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"cannot read the labels in {path}", got=error, expected="a UTF-8 text file") from error
    if not labels or len(set(labels)) != len(labels) or "" in labels:
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        raise OptionError(
            f"{path} is no list of labels",
            got=f"repeated: {', '.join(repeated[:3])}" if repeated else "an empty line or file",
            expected="one class name a line",
        )
    return labels
