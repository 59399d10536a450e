"""An ONNX graph to a plan, by whichever TensorRT is installed."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrify.artifacts import Audit, BuildConfig, Gpu
from vitrify.errors import BuildError, DeviceError, OptionError, StorageError
from vitrify.files import atomic_write
from vitrify.progress import SILENT, Progress
from vitrify.spec import ModelSpec, Precision
from vitrify.tensorrt.audit import audit_from_inspector, audit_from_log, require_asked
from vitrify.tensorrt.precision import pin_to_fp32, resolve_precision
from vitrify.tensorrt.releases import TensorRt
from vitrify.tensorrt.watching import Stop, TensorRtLog, log_of, make_monitor

_MIB = 1 << 20
_LEAVE_OUT = "leave --no-hold-norms out"
_OUT_OF_MEMORY = re.compile(r"out ?of ?memory|cudaMalloc|insufficient memory|Cuda failure: 2\b", re.IGNORECASE)
_LEVELS = {"ampere+": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}


@dataclass(frozen=True, kw_only=True)
class BuiltPlan:
    """What a build gave.

    Attributes:
        plan: The bytes.
        precision: The engine's arithmetic.
        compute_capabilities: GPUs that it was compiled for.
        pinned: Layers that were held in fp32.
        audit: What the engine consists of.
        seconds: Of the build.
    """

    plan: bytes
    precision: Precision
    compute_capabilities: tuple[str, ...]
    pinned: tuple[str, ...]
    audit: Audit
    seconds: float


def build_plan(
    onnx: bytes,
    spec: ModelSpec,
    config: BuildConfig,
    *,
    trt: TensorRt,
    gpu: Gpu | None,
    progress: Progress = SILENT,
) -> BuiltPlan:
    """Parses, builds and audits. Writes nothing but the timing cache.

    Args:
        onnx: A graph with a dynamic batch axis.
        spec: Its spec.
        config: How to build.
        trt: The binding.
        gpu: This machine's GPU, where there is one.
        progress: Told of each phase.

    Raises:
        OptionError: An option that this release or graph cannot honour.
        DeviceError: A GPU is needed and there is none, or its memory does not suffice.
        BuildError: TensorRT refuses the graph.
        GateError: TensorRT did not build what was asked for.
        KeyboardInterrupt: Ctrl-C; nothing was written.
    """
    precision = resolve_precision(config.precision, spec.precision, release=trt.release, name=trt.name)
    capabilities = _compute_capabilities(config, trt, gpu)
    stop = Stop()
    with stop.on_interrupt(progress, trt):
        log = log_of(trt)
        start_of_log, log.layers, logger = log.mark(), "", log.logger
        builder = _make_builder(trt, logger)
        network = builder.create_network(_network_flags(trt))
        parser = trt.module.OnnxParser(network, logger)
        if not parser.parse(onnx):
            raise _parser_error(trt, parser, log.since(start_of_log))
        builder_config = builder.create_builder_config()
        _set_options(trt, builder_config, config, capabilities)
        pinned = _set_precision(trt, builder_config, network, precision, hold_norms=config.hold_norms)
        _set_profiles(builder, builder_config, network, config)
        monitor = make_monitor(trt, progress, stop) if trt.release.progress_monitor else None
        if monitor is not None:
            builder_config.progress_monitor = monitor
        timed = gpu is not None and trt.release.timing_cache
        cache = trt.cache_file(config.timing_cache, gpu, "timing") if gpu is not None and timed else None
        if cache is not None:
            _load_timings(builder_config, cache, progress)
        progress.say(f"building with {trt.name}" + (f" for {', '.join(capabilities)}" if capabilities else ""))
        start = time.perf_counter()
        memory = builder.build_serialized_network(network, builder_config)
        seconds = time.perf_counter() - start
        if memory is None:
            raise _build_error(log.since(start_of_log), config)
        if cache is not None:
            _save_timings(builder_config, cache, progress)
        plan = bytes(memory)
        del memory  # a plan can have gigabytes
        here = gpu is not None and (trt.release.flavour == "full" or gpu.compute_capability in capabilities)
        text = _inspected(trt, plan, log, host_code=config.version_compatible) if here else None
    read, text = (audit_from_log, log.layers) if text is None else (audit_from_inspector, text)
    audit = read(text, asked=precision, attention_blocks=_attention_blocks(trt, network))
    require_asked(
        audit,
        plan_bytes=len(plan),
        fp32_bytes=len(onnx) if spec.precision == "fp32" else 0,
        profiles=len(config.profiles),
    )
    return BuiltPlan(
        plan=plan,
        precision=precision,
        compute_capabilities=capabilities or ((gpu.compute_capability,) if gpu else ()),
        pinned=pinned,
        audit=audit,
        seconds=seconds,
    )


def _network_flags(trt: TensorRt) -> int:
    flags = 0
    if (
        trt.release.strongly_typed
        and (typed := trt.flag("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")) is not None
    ):
        flags |= 1 << int(typed)
    if trt.release.explicit_batch_flag:
        flags |= 1 << int(trt.flag("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"))
    return flags


def _compute_capabilities(config: BuildConfig, trt: TensorRt, gpu: Gpu | None) -> tuple[str, ...]:
    """The GPUs to compile for, where this flavour compiles for named ones."""
    if not trt.release.compute_capabilities:
        if config.compute_capabilities:
            raise OptionError(
                f"{trt.name} builds for the GPU of this machine",
                got=f"compute capability {', '.join(config.compute_capabilities)}",
                hint="--tensorrt rtx compiles for named GPUs; --hardware-compatible makes an engine for several",
            )
        return ()
    wanted = config.compute_capabilities or ((gpu.compute_capability,) if gpu else ())
    if not wanted:
        raise OptionError(
            "there is no GPU here, and none is named to compile for",
            expected=f"a compute capability of {', '.join(_known_capabilities(trt))}",
            hint="--compute-capability 8.9 is an RTX 4090, 12.0 an RTX 5090",
        )
    unknown = [name for name in wanted if name not in _known_capabilities(trt)]
    if unknown:
        raise OptionError(
            f"{trt.name} does not compile for compute capability {', '.join(unknown)}",
            expected=", ".join(_known_capabilities(trt)),
            hint="data-centre GPUs, such as 9.0 (H100), take TensorRT itself: --tensorrt full",
        )
    return wanted


def _known_capabilities(trt: TensorRt) -> dict[str, Any]:
    members = trt.module.ComputeCapability.__members__
    return {f"{name[2:-1]}.{name[-1]}": value for name, value in members.items() if re.fullmatch(r"SM\d+", name)}


def _set_options(trt: TensorRt, builder_config: Any, config: BuildConfig, capabilities: tuple[str, ...]) -> None:
    release = trt.release
    builder_config.profiling_verbosity = trt.module.ProfilingVerbosity.DETAILED  # what the audit reads
    if not config.tf32:
        builder_config.clear_flag(trt.module.BuilderFlag.TF32)
    if config.workspace_mib is not None:
        builder_config.set_memory_pool_limit(trt.module.MemoryPoolType.WORKSPACE, config.workspace_mib * _MIB)
    if config.optimization_level is not None:
        _require(release.optimization_level, trt, "an optimisation level", "8.6")
        builder_config.builder_optimization_level = config.optimization_level
    if config.version_compatible:
        _require(release.version_compatible, trt, "version-compatible engines", "8.6")
        builder_config.set_flag(trt.module.BuilderFlag.VERSION_COMPATIBLE)
    if config.hardware_compatible != "none":
        name = _LEVELS[config.hardware_compatible]
        level = trt.flag("HardwareCompatibilityLevel", name)
        _require(release.hardware_compatible and level is not None, trt, f"hardware compatibility {name}", "10")
        builder_config.hardware_compatibility_level = level
    if capabilities:
        builder_config.num_compute_capabilities = len(capabilities)
        for index, name in enumerate(capabilities):
            builder_config.set_compute_capability(_known_capabilities(trt)[name], index)
    if config.tactic_sources:
        known = trt.module.TacticSource.__members__
        unknown = [name for name in config.tactic_sources if name not in known]
        if unknown:
            raise OptionError(f"{trt.name} has no tactic source {unknown[0]}", expected=", ".join(known))
        builder_config.set_tactic_sources(sum(1 << int(known[name]) for name in set(config.tactic_sources)))


def _require(available: bool, trt: TensorRt, what: str, since: str) -> None:
    if not available:
        raise OptionError(f"{trt.name} has not got {what}", expected=f"TensorRT {since} or newer", hint="leave it out")


def _set_precision(
    trt: TensorRt, builder_config: Any, network: Any, precision: Precision, *, hold_norms: bool
) -> tuple[str, ...]:
    """Where flags permit precisions, sets them; where the graph says the types, there is nothing to do."""
    if trt.release.strongly_typed and not hold_norms:
        raise OptionError(f"{trt.name} takes the types from the graph", got="norms not held in fp32", hint=_LEAVE_OUT)
    if trt.release.strongly_typed:
        return ()
    if precision == "fp32":
        if not hold_norms:
            raise OptionError("an engine in fp32 holds its norms in fp32", got="norms not held", hint=_LEAVE_OUT)
        return ()
    flags = {"fp16": ("FP16",), "int8": ("INT8", "FP16")}.get(precision)
    if flags is None:
        raise OptionError(f"{trt.name} does not compute in {precision}", expected=", ".join(trt.release.precisions))
    for name in flags:
        builder_config.set_flag(trt.flag("BuilderFlag", name))
    if not hold_norms:
        return ()
    # In a graph in fp16 too: its norms overflow as they do by flags.
    builder_config.set_flag(trt.module.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    return pin_to_fp32(trt, network)


def _set_profiles(builder: Any, builder_config: Any, network: Any, config: BuildConfig) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    for wanted in config.profiles:
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            shape = tuple(tensor.shape)
            if shape[0] != -1 or -1 in shape[1:]:
                raise BuildError(
                    f"the graph's input {tensor.name} has not one dynamic axis, its batch",
                    got=list(shape),
                    hint="vitrify export makes such graphs",
                )
            profile.set_shape(tensor.name, *((batch, *shape[1:]) for batch in (wanted.min, wanted.opt, wanted.max)))
        builder_config.add_optimization_profile(profile)


def _attention_blocks(trt: TensorRt, network: Any) -> int:
    kinds = [kind for name in ("SOFTMAX", "ATTENTION") if (kind := trt.flag("LayerType", name)) is not None]
    return sum(network.get_layer(index).type in kinds for index in range(network.num_layers))


def _inspected(trt: TensorRt, plan: bytes, log: TensorRtLog, *, host_code: bool) -> str:
    """The inspector's JSON of a plan for this GPU."""
    mark = log.mark()
    runtime = trt.module.Runtime(log.logger)
    if host_code:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BuildError(
            f"{trt.name} does not load what it built",
            got=log.since(mark),
            hint="try another version of TensorRT, or fewer options",
        )
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.module.LayerInformationFormat.JSON))


def _load_timings(builder_config: Any, path: Path, progress: Progress) -> None:
    """Gives a build the times that are known; a file that cannot be read, or that TensorRT refuses, counts as none."""
    known = b""
    try:
        known = path.read_bytes()
    except FileNotFoundError:
        pass
    except OSError as error:
        progress.say(f"kernel times cannot be read from {path}: {error.strerror or error}")
    cache = builder_config.create_timing_cache(known)
    if cache is None or not builder_config.set_timing_cache(cache, False):
        builder_config.set_timing_cache(builder_config.create_timing_cache(b""), False)


def _save_timings(builder_config: Any, path: Path, progress: Progress) -> None:
    """Keeps the times for the next build; that they cannot be kept is no reason to lose this one."""
    cache = builder_config.get_timing_cache()
    if cache is None:
        return
    try:
        atomic_write(path, bytes(cache.serialize()))
    except (OSError, StorageError) as error:
        progress.say(f"kernel times are not kept: {error}")


def _make_builder(trt: TensorRt, logger: Any) -> Any:
    """A builder.

    Raises:
        DeviceError: There is no GPU that it can use.
    """
    try:
        builder = trt.module.Builder(logger)
    except TypeError:  # pybind11's answer to a factory that gave nothing
        builder = None
    if builder is None:
        raise DeviceError(
            f"{trt.name} cannot build here",
            got="no GPU that it can use",
            expected="a GPU and a driver for its CUDA version",
            hint="check nvidia-smi; without a GPU: vitrify build MODEL.onnx -o MODEL.engine --tensorrt rtx "
            "--compute-capability 8.9",
        )
    return builder


def _parser_error(trt: TensorRt, parser: Any, logged: str) -> BuildError:
    """What is said of a graph that the parser refuses.

    Args:
        trt: The binding.
        parser: Its `OnnxParser`, after it refused.
        logged: What TensorRT wrote meanwhile.
    """
    lines = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        name = error.node_name() if hasattr(error, "node_name") else f"number {error.node()}"
        kind = f" ({error.node_operator()})" if hasattr(error, "node_operator") else ""
        lines.append(f"node {name}{kind}: {error.desc()}" if name else str(error.desc()))
    text = "\n       ".join(lines) or logged
    hint = "report this graph; vitrify export makes graphs that TensorRT reads"
    if not trt.release.layer_normalization and "LayerNormalization" in text + logged:
        hint = "vitrify export CHECKPOINT -o MODEL.onnx --opset 16 writes LayerNorm in steps that it knows"
    elif not lines or "deserialize" in text or "ModelProto" in text:
        hint = "the file is damaged: export it again"
    return BuildError(f"{trt.name} cannot read the graph", got=text, hint=hint)


def _build_error(text: str, config: BuildConfig) -> BuildError | DeviceError:
    """What is said of a build that gave nothing.

    Args:
        text: What TensorRT wrote meanwhile.
        config: How it was to be built.
    """
    if _OUT_OF_MEMORY.search(text):
        return DeviceError(
            "the GPU's memory does not suffice for this build",
            got=text,
            hint=f"a smaller largest batch than {config.max_batch} (--profile), or --workspace-mib",
        )
    hint = "try one --profile at a time, or a graph in another precision: vitrify quantize MODEL.onnx --to fp16"
    return BuildError("TensorRT made no engine of the graph", got=text, hint=hint)
