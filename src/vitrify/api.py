"""What the commands do, as functions: the same names, options and defaults.

`vitrify.cli` makes its commands of these signatures and of these descriptions, so that there is one list of options.
A function gives what `--json` prints as an object; where a command would exit with 1, it raises `GateError`, whose
`result` is what was measured. Nothing here needs PyTorch before it is called.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import logging
import os
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from vitrify.classifier.options import ClassifierOptions
from vitrify.errors import GateError, MissingExtraError, OptionError, StorageError, VitrifyError
from vitrify.progress import SILENT, Progress
from vitrify.signatures import with_options
from vitrify.training.config import TrainConfig

if TYPE_CHECKING:
    from typing import TypeAlias

    from vitrify.benchmark import BenchReport
    from vitrify.pixels import ImageSource
    from vitrify.spec import PrecisionSearch
    from vitrify.verification import Evaluation, LayerReport
    from vitrify.workflows.build import BuildResult
    from vitrify.workflows.export import ExportResult
    from vitrify.workflows.quantize import QuantizeResult
    from vitrify.workflows.sign import SignResult
    from vitrify.workflows.train import TrainResult
    from vitrify.workflows.verify import VerifyResult

    StrPath: TypeAlias = str | os.PathLike[str]
    Images: TypeAlias = ImageSource | Iterable[ImageSource]
    Labels: TypeAlias = StrPath | Iterable[str]
    Words: TypeAlias = str | Iterable[str]
    Numbers: TypeAlias = int | Iterable[int]
    Artifacts: TypeAlias = StrPath | Iterable[StrPath]
    ShowProgress: TypeAlias = bool | Progress

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LOGGER = logging.getLogger("vitrify")
"""Gets what is said, at level INFO; add a handler to read it."""

LAYER_IMAGES = 32
"""What leaves a block says more of an image than its logits do; more images change little."""


def parameter_types(function: Callable[..., Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """The types of a function's parameters.

    Args:
        function: One of this module.
        names: What the names of types in its annotations stand for.
    """
    holder = types.SimpleNamespace(
        __annotations__={
            name: parameter.annotation
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.annotation is not parameter.empty
        }
    )
    return get_type_hints(holder, {**names, "Literal": Literal}, {})


def _public(function: Callable[P, R]) -> Callable[P, R]:
    """Checks what is to be one of several words, and logs what is said."""

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        for name, kind in _named_values(function).items():
            choices = [value for part in (kind, *get_args(kind)) for value in get_args(part) if _is_literal(part)]
            value = options.get(name, choices[0])
            if value not in choices and not (value is None and type(None) in get_args(kind)):
                raise OptionError(
                    f"{name} has an unknown value", got=repr(value), expected=" or ".join(map(str, choices))
                )
        options["progress"] = _logged(options.get("progress", False))
        return function(*arguments, **options)

    return call


@functools.cache
def _named_values(function: Callable[..., Any]) -> dict[str, Any]:
    kinds = parameter_types(function, dict.fromkeys(_TYPE_NAMES, Any))
    return {name: kind for name, kind in kinds.items() if any(map(_is_literal, (kind, *get_args(kind))))}


_TYPE_NAMES = ("StrPath", "Images", "Labels", "Words", "Numbers", "Artifacts", "ShowProgress", "Any")


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


class _Logged:
    """Reports to another, and what is said to the logger too."""

    def __init__(self, to: Any) -> None:
        self._to = to

    def say(self, message: str) -> None:
        LOGGER.info(message)
        self._to.say(message)

    def track(self, items: Iterable[T], *, label: str, total: int | None = None) -> Iterator[T]:
        tracked: Iterator[T] = self._to.track(items, label=label, total=total)
        return tracked

    def watch(self, work: Any) -> contextlib.AbstractContextManager[Any]:
        """For a `Progress` that shows a whole job as well."""
        watched: contextlib.AbstractContextManager[Any] | None = (
            self._to.watch(work) if hasattr(self._to, "watch") else None
        )
        return watched or contextlib.nullcontext()


def _logged(progress: Any) -> _Logged:
    if isinstance(progress, _Logged):
        return progress
    if progress is True:
        from vitrify.console import TerminalProgress

        progress = TerminalProgress()
    return _Logged(progress or SILENT)


def _reports(progress: ShowProgress) -> Progress:
    assert isinstance(progress, _Logged)  # `_public` made it so
    return progress


def _train(data: StrPath, /, *, output: StrPath, progress: ShowProgress = False, **options: Any) -> TrainResult:
    """Fine-tunes a Vision Transformer on an image folder.

    Makes a run folder with best.safetensors, last.safetensors, metrics.csv, curves.png, confusion.png and report.md.

    Args:
        data: DATA/CLASS/*.jpg, split by seed and val_fraction, or DATA/train/CLASS and DATA/val/CLASS.
        output: The run folder.
        **options: OPTIONS
        progress: True draws bars in the terminal; or an object as in `vitrify.progress`.

    Raises:
        OptionError: Options that cannot be used, or that do not fit the run that is to be resumed.
        DatasetError: A folder that cannot be trained on; lists the unreadable images.
        CheckpointError: The initial weights cannot be had.
        TrainingDivergedError: A loss is not finite; the run folder keeps the last good epoch.

    Example:
        >>> run = vitrify.train("flowers", output="runs/flowers", init="pretrained", epochs=10, progress=True)
        >>> print(run.best, run.top1)
    """
    from vitrify.workflows.train import checkpoint_from_images

    try:
        config = TrainConfig(**options)
    except TypeError as error:  # an option that there is not, as for any function
        raise TypeError(str(error).replace("TrainConfig.__init__()", "train()")) from None
    return checkpoint_from_images(Path(data), Path(output), config, progress=_reports(progress))


_train.__name__ = _train.__qualname__ = "train"
train = _public(with_options(TrainConfig)(_train))


@_public
def export(
    checkpoint: StrPath,
    /,
    *,
    output: StrPath,
    images: Images = (),
    max_images: int = 256,
    labels: Labels | None = None,
    exporter: Literal["auto", "dynamo", "torchscript"] = "auto",
    opset: Literal[16, 18] = 18,
    arch: str | None = None,
    num_heads: int | None = None,
    img_size: Numbers | None = None,
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"] | None = None,
    norm_eps: float | None = None,
    pool: Literal["token", "avg", "token_avg"] | None = None,
    raw_weights: bool = False,
    progress: ShowProgress = False,
) -> ExportResult:
    """Exports a checkpoint to a verified, self-describing ONNX file.

    The file appears only when ONNX Runtime and OpenVINO give PyTorch's answers. bf16 is judged on the real images, at
    least 32 of them, and is used later only where it passed.

    Args:
        checkpoint: Weights of vitrify, timm, Hugging Face transformers (file or folder) or JAX (.npz).
        output: The ONNX file.
        images: Real images to compare on: files, folders or globs.
        max_images: Of those, compare on at most this many, evenly spread.
        labels: A text file with one class name a line, where the checkpoint does not tell.
        exporter: auto tries dynamo and falls back to torchscript when its gate fails.
        opset: 16 is for TensorRT 8.5 alone, which does not know LayerNormalization.
        arch: timm's model name, where tensors alone do not tell.
        num_heads: Attention heads; shapes do not show them.
        img_size: Image side in pixels, or height and width, where the position embedding does not tell.
        activation: Activation of the MLPs; tensors do not show it.
        norm_eps: Epsilon of the layer norms; tensors do not show it.
        pool: What the head reads, where tensors do not tell.
        raw_weights: Take the raw weights even where the file also holds their moving average.
        progress: True draws bars in the terminal; or an object as in `vitrify.progress`.

    Raises:
        CheckpointError: The checkpoint cannot be read or understood.
        OptionError: Wrong labels or another suffix than `.onnx`.
        GateError: No exporter gave a graph with PyTorch's answers; nothing was written.
        StorageError: The file cannot be written; what stood there is still there.

    Example:
        >>> made = vitrify.export("runs/flowers/best.safetensors", output="flowers.onnx", images="flowers/val")
        >>> print(made.path, made.verification.checks)
    """
    from vitrify.checkpoints import Overrides
    from vitrify.workflows.export import onnx_from_checkpoint, read_labels

    names = read_labels(labels) if isinstance(labels, str | os.PathLike) else tuple(labels or ()) or None
    return onnx_from_checkpoint(
        checkpoint,
        output,
        images=_images(images, max_images),
        labels=names,
        exporter=exporter,
        opset=opset,
        overrides=Overrides(
            architecture=arch,
            num_heads=num_heads,
            img_size=None if img_size is None else _several(img_size),
            activation=activation,
            norm_eps=norm_eps,
            pool=pool,
            raw_weights=raw_weights,
        ),
        progress=_reports(progress),
    )


@_public
def quantize(
    model: StrPath,
    /,
    *,
    output: StrPath,
    to: Literal["int8", "fp8", "fp16", "bf16"] = "int8",
    calibration: Images,
    data: StrPath | None = None,
    images: Images = (),
    calibration_images: int = 256,
    max_images: int = 2000,
    max_drop: float = 0.5,
    min_agreement: float = 99.0,
    confidence: float = 80.0,
    min_speedup: float = 1.05,
    judge_speed: bool = True,
    fallback: bool = True,
    calibrator: Literal["mse", "max"] = "mse",
    smooth: bool = True,
    around: Literal["fp32", "fp16", "bf16"] = "fp32",
    keep: Words = (),
    narrow_io: bool = False,
    runtime: Literal["auto", "openvino", "onnxruntime"] = "auto",
    batch: int = 1,
    threads: int | None = None,
    time: str | None = None,
    report: StrPath | None = None,
    progress: ShowProgress = False,
) -> QuantizeResult:
    """Makes an ONNX file in a lower precision that is accurate enough and faster than its source, or none.

    Measures, and where a gate does not hold, keeps the blocks that suffer most as they are, then tries the next higher
    precision. Every attempt goes into the report and into the artifact.

    Args:
        model: An fp32 ONNX file that vitrify export made.
        output: The ONNX file to write.
        to: What to begin with: int8 and fp8 as Q/DQ nodes, fp16 and bf16 as types.
        calibration: Images that look like those to come: files, folders or globs. Ranges are measured on them.
        data: A labelled folder, DIR/CLASS/*, that accuracy is judged on.
        images: Without labels: images on which answers are compared with the source's. By default the calibration's.
        calibration_images: Calibrate on at most this many, evenly spread.
        max_images: Judge accuracy on at most this many, evenly spread.
        max_drop: Most top-1 accuracy that may be lost, in percentage points, with `data`.
        min_agreement: Least share of the source's answers, in percent, without `data`.
        confidence: Refuse a loss that is beyond its limit with this confidence, in percent: of few images, one more
            lost answer may be chance. At 50, what was measured decides.
        min_speedup: Least speedup over the source in the fastest precision that it holds here, in the runtime at hand:
            median over the rounds. The first quartile has to be above 1 as well.
        judge_speed: Measure speed here. Leave it out for a file that another machine, such as one with a GPU, will run.
        fallback: Try the next higher precision where one does not hold.
        calibrator: How much of an activation's range 8 bits cover: mse what costs least squared error, max all of it.
        smooth: Move outlier channels of activations into weights before quantizing.
        around: What everything but the linear layers computes in, with int8 and fp8: fp16 for a GPU.
        keep: Blocks that stay as they are, such as blocks.3.
        narrow_io: Take and give fp16 instead of fp32; only to fp16.
        runtime: What judges.
        batch: Images in one timed inference.
        threads: Of the runtime; by default what it chooses.
        time: End the search after this long, such as 300, 90s, 5m or 1h. No candidate is begun that would not be
            finished. By default it takes as long as it needs, and says how long that may be.
        report: Folder for the report; by default beside the output, named after it.
        progress: True draws bars in the terminal; or an object as in `vitrify.progress`.

    Raises:
        OptionError: Options that contradict each other, too few images, or a graph that has a lower precision already.
        ArtifactError, SpecError: The source cannot be used.
        GateError: Nothing held, so nothing was written but the report; `result` has every attempt.
        StorageError: A file cannot be written. Where that is the report alone, the artifact stands, and `result` is it.

    Example:
        >>> made = vitrify.quantize("vit.onnx", output="vit.int8.onnx", calibration="photos/train", data="photos/val")
        >>> print(made.path, made.search.attempts[-1].speedup)
    """
    from vitrify.files import require_writable
    from vitrify.precision import Recipe
    from vitrify.workflows.quantize import (
        Limits,
        QuantizeConfig,
        labelled_images,
        quantized_from_onnx,
        write_report,
    )

    model, output = Path(model), Path(output)
    if narrow_io and to != "fp16":
        raise OptionError("only an fp16 graph can take and give fp16", got=f"to {to}", hint="leave narrow_io out")
    if to in ("fp16", "bf16") and (around != "fp32" or not smooth or calibrator != "mse"):
        raise OptionError(
            "around, smooth and calibrator are about 8 bits", got=f"to {to}", hint="leave them as they are"
        )
    folder = Path(report) if report is not None else output.with_name(f"{output.stem}-report")
    require_writable(folder / "report.md")
    judged, labels = (_images(images, max_images), None)
    if data is not None:
        judged, labels = labelled_images(model, Path(data), max_images)
    config = QuantizeConfig(
        recipe=Recipe(
            precision=to,
            around=around,
            calibrator=calibrator,
            smooth=smooth,
            split_qkv=around != "fp32",  # what is meant for TensorRT
            keep=_several(keep),
            narrow=narrow_io,
        ),
        fallback=fallback,
        limits=Limits(
            max_drop=max_drop / 100,
            min_agreement=min_agreement / 100,
            confidence=confidence / 100,
            min_speedup=min_speedup if judge_speed else None,
        ),
        runtime=runtime,
        batch=batch,
        threads=threads,
        time_s=_seconds(time),
    )
    title = f"{model.name} to {to}"
    reports = _reports(progress)
    attempts: list[PrecisionSearch] = []
    try:
        result = quantized_from_onnx(
            model,
            output,
            calibration=_images(calibration, calibration_images),
            config=config,
            images=judged,
            labels=labels,
            attempted=attempts.append,
            progress=reports,
        )
    except BaseException as error:  # Ctrl-C too: what was measured until then is not lost
        if attempts and (attempts[-1].attempts or not isinstance(error, VitrifyError)):
            _rescue(attempts[-1], folder, title, error, reports)
        raise
    try:
        written = write_report(result.search, folder, title=title, notes=result.notes)
        reports.say(f"report: {', '.join(map(str, written))}")
        result.require_found(model)
    except (StorageError, GateError) as error:  # the artifact, if there is one, stands all the same
        error.result = result
        raise
    return result


def _seconds(text: str | None) -> float | None:
    """A duration as a user writes it, `300`, `90s`, `5m` or `1.5h`, in seconds."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(text).strip())
    if found is None:
        raise OptionError("no duration", got=text, expected="seconds, or a number with s, m or h, such as 5m")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _rescue(search: PrecisionSearch, folder: Path, title: str, error: BaseException, reports: Progress) -> None:
    """Writes what a search measured before it ended in an error; where that fails too, the error has it."""
    from vitrify.workflows.quantize import write_report

    why = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else type(error).__name__
    if isinstance(error, VitrifyError):
        why = error.what
    search = dataclasses.replace(search, stopped=why)
    try:
        written = write_report(search, folder, title=title, notes=[f"no artifact was written: {why}"])
    except (VitrifyError, OSError):
        for attempt in search.attempts:
            reports.say(f"{attempt.recipe}: {'passed' if attempt.passed else attempt.reason}")
    else:
        reports.say(f"report: {', '.join(map(str, written))}")


@_public
def build(
    model: StrPath,
    /,
    *,
    output: StrPath | None = None,
    rebuild: bool = False,
    tensorrt: Literal["auto", "full", "rtx"] = "auto",
    compute_capability: Words = (),
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8", "fp8"] = "auto",
    profile: Words = ("1:8:64",),
    hold_norms: bool = True,
    tf32: bool = False,
    workspace_mib: int | None = None,
    optimization_level: int | None = None,
    timing_cache: str = "auto",
    version_compatible: bool = False,
    hardware_compatible: Literal["none", "ampere+", "same-compute-capability"] = "none",
    tactic_sources: Words = (),
    images: Images = (),
    max_images: int = 256,
    faster_than: StrPath | None = None,
    min_speedup: float | None = None,
    progress: ShowProgress = False,
) -> BuildResult:
    """Builds a TensorRT engine from an ONNX file, with a manifest beside it.

    The engine appears only when it was built in the precision that was asked for and, where it is for this GPU, gives
    the ONNX file's answers. TensorRT-RTX compiles for GPUs that are not here; `vitrify verify` on the target compares.

    Args:
        model: An ONNX file; to rebuild, an engine.
        output: The engine: .engine or .plan.
        rebuild: Build an engine again for this machine, from the ONNX file and with the options in its manifest; no
            other option of how to build goes with it.
        tensorrt: full is TensorRT itself, rtx is TensorRT-RTX; auto takes the first where both are installed.
        compute_capability: GPUs to compile for, with TensorRT-RTX: 8.9 is an RTX 4090, 12.0 an RTX 5090.
        precision: auto takes the graph's own. TensorRT 8 makes fp16 of fp32, with LayerNorm and softmax in fp32.
        profile: Smallest, usual and largest batch, one profile or several.
        hold_norms: TensorRT 8, fp16: LayerNorm and softmax stay in fp32. Without, the build is quick and errors are
            several times larger.
        tf32: Permit products of fp32 numbers with 10 bits of mantissa.
        workspace_mib: Most scratch memory for a layer, in MiB.
        optimization_level: 0, quick, to 5, thorough.
        timing_cache: Folder of timing caches; auto is in the user's cache folder, none keeps nothing.
        version_compatible: The engine also runs on later minor versions of TensorRT.
        hardware_compatible: Other GPUs than this one that the engine shall run on.
        tactic_sources: Libraries that kernels may come from, such as CUBLAS_LT.
        images: Real images to compare on: files, folders or globs.
        max_images: Of those, compare on at most this many, evenly spread.
        faster_than: An engine of the same model that the new one has to outrun on this GPU, at the batch sizes it is
            tuned for; else nothing is written.
        min_speedup: Least speedup over that engine, by default 1.05.
        progress: True draws bars in the terminal; or an object as in `vitrify.progress`.

    Raises:
        OptionError: An option that this TensorRT or graph cannot honour.
        ArtifactError, SpecError: The ONNX file cannot be used.
        MissingExtraError: TensorRT or cuda-bindings is not installed.
        DeviceError: A GPU is needed and there is none, or its memory does not suffice.
        BuildError: TensorRT refuses the graph.
        GateError: The engine is not what was asked for, does not give its source's answers, or is no faster than its
            rival; nothing was written.

    Example:
        >>> vitrify.build("flowers.onnx", output="flowers.engine", tensorrt="rtx", compute_capability="8.9")
    """
    from vitrify.artifacts import BuildConfig, Profile
    from vitrify.workflows.build import engine_from_manifest, engine_from_onnx
    from vitrify.workflows.races import MIN_SPEEDUP, Rival

    if faster_than is None and min_speedup is not None:
        raise OptionError("min_speedup belongs to a race", hint="name an engine to be faster than")
    least = MIN_SPEEDUP if min_speedup is None else min_speedup
    rival = Rival(path=Path(faster_than), min_speedup=least) if faster_than is not None else None
    config = BuildConfig(
        tensorrt=tensorrt,
        precision=precision,
        profiles=tuple(Profile.parse(text) for text in _several(profile)),
        hold_norms=hold_norms,
        tf32=tf32,
        workspace_mib=workspace_mib,
        optimization_level=optimization_level,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        compute_capabilities=_several(compute_capability),
        tactic_sources=_several(tactic_sources),
    )
    chosen = _images(images, max_images)
    if rebuild:
        if output is not None or config != BuildConfig():
            raise OptionError(
                "a rebuild takes the options and the engine's name from the manifest",
                expected="rebuild alone, or with images, max_images, faster_than or min_speedup",
            )
        return engine_from_manifest(model, images=chosen, rival=rival, progress=_reports(progress))
    if output is None:
        raise OptionError("vitrify build needs the engine's name", expected="an output such as MODEL.engine")
    return engine_from_onnx(model, output, config=config, images=chosen, rival=rival, progress=_reports(progress))


@_public
def sign(artifact: StrPath, /, *, key: StrPath, progress: ShowProgress = False) -> SignResult:
    """Writes a signature beside an artifact, by which whoever has the public key knows who made it.

    Of an engine, the manifest is signed, which names the plan's bytes. The signature has minisign's form, so that
    `minisign -V` checks it as well as `vitrify verify --signed-by`.

    Args:
        artifact: What to sign; it is held to its own digest first.
        key: An Ed25519 private key in PEM, as `openssl genpkey -algorithm ed25519` makes it. VITRIFY_KEY_PASSWORD in
            the environment is the password of an encrypted one.
        progress: True draws bars in the terminal; or an object as in `vitrify.progress`.

    Raises:
        ArtifactError: The artifact cannot be used, or is not the file that was written.
        OptionError: No such key.
        MissingExtraError: cryptography is not installed.

    Example:
        >>> vitrify.sign("flowers.onnx", key="release.pem").public_key
    """
    from vitrify.workflows.sign import signature_from_artifact

    del progress  # it takes a second for a file of gigabytes
    return signature_from_artifact(artifact, key)


@_public
def verify(
    artifact: StrPath,
    /,
    *,
    reference: StrPath | None = None,
    images: Images = (),
    max_images: int | None = None,
    runtime: str = "all",
    precision: Literal["fp32", "bf16", "fp16", "fp8"] = "fp32",
    layers: bool = False,
    reference_runtime: str = "auto",
    tolerance: float | None = None,
    plot: StrPath | None = None,
    signed_by: StrPath | None = None,
    progress: ShowProgress = False,
) -> VerifyResult | LayerReport:
    """Says whether an artifact, on this machine, still is the model that was exported.

    Needs neither PyTorch nor images: the artifact carries inputs with known answers. An engine that passes keeps the
    record in its manifest. With layers, it says in which block of the network the artifact leaves its reference.

    Args:
        artifact: What to judge.
        reference: A checkpoint or another artifact; its answers are the truth.
        images: Real images to compare on as well: files, folders or globs.
        max_images: Of those, compare on at most this many, evenly spread; by default all, and 32 with layers.
        runtime: all that are installed, or one by name.
        precision: Arithmetic to judge.
        layers: Compare what leaves each block, not the logits alone.
        reference_runtime: With layers, what runs the reference: auto, the exact one, or one by name.
        tolerance: With layers, the largest relative error of a block; by default 1e-4 in fp32, 0.01 in fp16, 0.08 in
            bf16, 0.2 in int8, 0.25 in fp8.
        plot: With layers, draw the error of each block as a picture, PNG.
        signed_by: A public key that has to have signed it, which is checked first: what `vitrify sign` prints, or a
            file with it.
        progress: True draws bars in the terminal; or an object as in `vitrify.progress`.

    Returns:
        What was measured; a `LayerReport` with layers.

    Raises:
        GateError: It is not; `result` is what was measured.
        SignatureError: It is not signed by that key; nothing of it was run.
        ArtifactError, SpecError: The artifact cannot be used.

    Example:
        >>> vitrify.verify("flowers.onnx", images="flowers/val").verification.checks
    """
    from vitrify.artifacts import ENGINE_SUFFIXES, rebuild_command
    from vitrify.verification import compare_layers, drift_picture, require_passed
    from vitrify.workflows.verify import verify_and_record

    artifact = Path(artifact)
    given = {"reference_runtime": reference_runtime != "auto", "tolerance": tolerance is not None, "plot": plot}
    for name, value in given.items():
        if value and not layers:
            raise OptionError(f"{name} belongs to the comparison block by block", hint="add --layers, or layers=True")
    _require_picture(plot, "the picture of the drift")
    if max_images is not None and max_images < 1:
        raise OptionError("max_images is not positive", got=max_images, expected="1 or more")
    if signed_by is not None:
        from vitrify.workflows.sign import require_signed

        signed = require_signed(artifact, signed_by).replace("\t", ", ")
        _reports(progress).say(f"the signature holds: {signed}")
    chosen = _images(images, max_images or (LAYER_IMAGES if layers else None))
    if not layers:
        result = verify_and_record(
            artifact,
            reference=reference,
            images=chosen,
            runtime=runtime,
            precision=precision,
            progress=_reports(progress),
        )
        again = rebuild_command(artifact) if artifact.suffix in ENGINE_SUFFIXES else "export it again on this machine"
        with _measured(result):
            require_passed(
                result.verification.checks, str(artifact), hint=f"{again}; if that passes, the file was damaged"
            )
        return result
    report = compare_layers(
        artifact,
        reference=reference,
        images=chosen,
        runtime=runtime,
        reference_runtime=reference_runtime,
        precision=precision,
        tolerance=tolerance,
        progress=_reports(progress),
    )
    if plot is not None:
        drift_picture(report, Path(plot))
    for run in report.comparisons:
        if run.first is None:
            continue
        part = next(part for part in run.parts if part.part == run.first)
        with _measured(report):
            raise GateError(
                f"{artifact} leaves {report.reference} at {part.part}",
                got=part.not_finite or f"a relative error of {part.relative_error:.2g}, {run.runtime} {run.precision}",
                expected=f"finite values, and a relative error of at most {run.tolerance:g}",
                hint="what comes before it holds: look at this part's weights and types, or keep it in a higher "
                "precision",
            )
    return report


@_public
@with_options(ClassifierOptions, without=("like", "top_k"))
def evaluate(
    artifact: StrPath,
    data: StrPath,
    /,
    *,
    reference: StrPath | None = None,
    confusion: StrPath | None = None,
    min_top1: float | None = None,
    progress: ShowProgress = False,
    **options: Any,
) -> Evaluation:
    """Measures accuracy on a labelled folder, with a confidence interval and the answers that flipped.

    Images that could not be read are in `failures` and count nowhere else.

    Args:
        artifact: What to judge.
        data: DATA/CLASS/*.jpg; where there are DATA/train and DATA/val, DATA/val is taken.
        reference: Another artifact or a checkpoint; images that it answers differently are listed.
        confusion: Write the confusion matrix as a picture, PNG.
        min_top1: Least accuracy, 0 to 1; below it, the gate did not hold.
        **options: OPTIONS
        progress: True draws bars in the terminal; or an object as in `vitrify.progress`.

    Raises:
        DatasetError: No labelled images there, a class that the artifact does not know, or no image could be read.
        GateError: The accuracy is below min_top1; `result` is what was measured.
        ArtifactError, SpecError: The artifact cannot be used.

    Example:
        >>> found = vitrify.evaluate("flowers.onnx", "flowers/val", min_top1=0.97)
        >>> print(found.top1, found.top1_interval)
    """
    from vitrify.classifier import Classifier
    from vitrify.verification import confusion_picture, evaluate_folder

    if min_top1 is not None and not 0 <= min_top1 <= 1:
        raise OptionError("min_top1 is out of range", got=min_top1, expected="0 to 1, such as 0.97")
    _require_picture(confusion, "the confusion matrix")
    with Classifier(artifact, **options) as classifier:
        result = evaluate_folder(classifier, data, reference=reference, progress=_reports(progress))
    if confusion is not None:
        confusion_picture(result, Path(confusion))
    if min_top1 is not None and result.top1 < min_top1:
        with _measured(result):
            raise GateError(
                "the accuracy is below min_top1", got=f"{result.top1:.2%}", expected=f"{min_top1:.2%} or more"
            )
    return result


@_public
def bench(
    artifacts: Artifacts,
    /,
    *,
    images: Images = (),
    reference: StrPath | None = None,
    batch: Numbers = (1, 8),
    threads: int | None = None,
    runtime: Words = ("all",),
    precision: Words = ("all",),
    max_images: int = 100,
    rounds: int = 30,
    budget: float = 30.0,
    output: StrPath | None = None,
    plot: StrPath | None = None,
    progress: ShowProgress = False,
) -> BenchReport:
    """Says which artifact to deploy: latency, throughput, error, memory and file size, side by side.

    Each artifact runs in each runtime and precision that it can, and all take turns in one run. What does not give the
    reference's answers is shown without times, and the report has not passed.

    Args:
        artifacts: ONNX files, engines or checkpoints of one model. Ratios are to the first.
        images: Compare answers on these, and time the whole pipeline from file to label: files, folders or globs.
        reference: The fp32 artifact or checkpoint whose answers are the truth; by default the first fp32 artifact
            named, else the golden vectors that each artifact carries.
        batch: Images in one call; each size is a race of its own.
        threads: Of each runtime; by default what it chooses.
        runtime: all that are installed, or some by name.
        precision: all that a runtime has here, or some by name: fp32, bf16, fp16, fp8.
        max_images: Compare answers on at most this many images, evenly spread.
        rounds: Timed calls of each contender at each batch size, at most.
        budget: Seconds after which no further round of a batch size begins, once there were five.
        output: Write everything as JSON here.
        plot: Draw latency, throughput, error and stages as a picture, PNG.
        progress: True draws bars in the terminal; or an object as in `vitrify.progress`.

    Returns:
        What was measured; `passed` says whether every contender gave the reference's answers.

    Raises:
        OptionError: Options that contradict each other or the artifacts, artifacts of different models, no readable
            image.
        ArtifactError: A file that is not there, or that no runtime runs.

    Example:
        >>> report = vitrify.bench(["flowers.onnx", "flowers.int8.onnx"], images="flowers/val", batch=1)
        >>> [(row.name, row.timing and row.timing.median_ms) for row in report.rows]
    """
    from vitrify.benchmark import BenchConfig, bench_picture, write_report
    from vitrify.benchmark import bench as run_bench
    from vitrify.classifier import expand_sources

    _require_picture(plot, "the picture")
    sources = expand_sources(images)
    foreign = [source for source in sources if not isinstance(source, str | os.PathLike)]
    if foreign:
        raise OptionError(
            "bench times the way from a file to its label",
            got=type(foreign[0]).__name__,
            expected="files, folders or globs",
        )
    known = ("all", "fp32", "bf16", "fp16", "fp8")
    if unknown := [name for name in _several(precision) if name not in known]:
        raise OptionError("precision has an unknown value", got=repr(unknown[0]), expected=" or ".join(known))
    config = BenchConfig(
        batches=_several(batch),
        runtimes=_several(runtime),
        precisions=_several(precision),
        threads=threads,
        reference=None if reference is None else Path(reference),
        max_images=max_images,
        rounds=rounds,
        budget_s=budget,
    )
    named = [artifacts] if isinstance(artifacts, str | os.PathLike) else artifacts
    report = run_bench(
        [Path(path) for path in named],
        images=[Path(source) for source in sources if isinstance(source, str | os.PathLike)],
        config=config,
        progress=_reports(progress),
    )
    if output is not None:
        write_report(report, Path(output))
        _reports(progress).say(f"wrote {output}")
    if plot is not None:
        bench_picture(report, Path(plot))
        _reports(progress).say(f"wrote {plot}")
    return report


@contextlib.contextmanager
def _measured(result: object) -> Iterator[None]:
    """What a gate refuses was measured all the same."""
    try:
        yield
    except GateError as error:
        error.result = result
        raise


def _images(images: Images, limit: int | None) -> list[ImageSource]:
    from vitrify.classifier import expand_sources, pick_evenly

    sources = expand_sources(images)
    return sources if limit is None else pick_evenly(sources, limit)


def _several(values: Any) -> tuple[Any, ...]:
    """One as well as several: a word is no sequence of letters."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        return (values,)
    return tuple(values)


def _require_picture(path: StrPath | None, what: str) -> None:
    """Refuses a picture that could not be drawn, before the work that it would show."""
    if path is None:
        return
    if Path(path).suffix.lower() != ".png":
        raise OptionError(f"{what} is a PNG", got=path, expected="a name ending in .png")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("drawing needs matplotlib", extra="train", package="matplotlib")
