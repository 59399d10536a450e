"""Carries out recipes on a graph, measuring each thing once; and gives a graph the types that a TensorRT takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import version_converter

from vitrify.artifacts import EnginePrecision
from vitrify.errors import OptionError
from vitrify.graphs import copy_of, is_block, linear_layers, opset_of, part_of
from vitrify.graphs.rewrites.casts import BF16, FP16, Casts, HalfType
from vitrify.graphs.rewrites.float_weights import with_float_weights
from vitrify.graphs.rewrites.qdq import FP8, INT8, QuantizedLayers, QuantizedType, Rounded
from vitrify.graphs.rewrites.split_qkv import SplitQkv
from vitrify.precision.observing import (
    Batches,
    Calibrator,
    choose_range,
    float_tensors,
    observe_channels,
    observe_histograms,
    observe_magnitudes,
)
from vitrify.precision.recipe import Around, Recipe
from vitrify.precision.rounding import rounded_weights
from vitrify.precision.smoothing import Smoothed, smooth
from vitrify.progress import SILENT, Progress
from vitrify.spec import ModelSpec
from vitrify.tensorrt import Release

WHOLE_NORM_OPSET = 17
"""LayerNormalization is one node since; in steps, ONNX Runtime fuses it across the casts around it, and fails."""

HALF_QDQ_OPSET = 21
"""Q/DQ nodes with 16-bit scales, and FLOAT8: in the opset that ONNX Runtime, OpenVINO and TensorRT 10 all read."""

_HALVES: dict[str, HalfType] = {"fp16": FP16, "bf16": BF16}
_EIGHTS: dict[str, QuantizedType] = {"int8": INT8, "fp8": FP8}


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """A graph in a lower precision.

    Attributes:
        proto: The graph.
        smoothed: Layers whose inputs were smoothed.
        notes: What the user should know.
    """

    proto: onnx.ModelProto
    smoothed: tuple[Smoothed, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Prepared:
    proto: onnx.ModelProto
    ranges: dict[str, float]
    weights: dict[str, Rounded]
    magnitudes: dict[str, float]
    smoothed: tuple[Smoothed, ...]


@dataclass
class Rewriter:
    """Carries out recipes on one graph. What calibration images tell is measured once and kept.

    Attributes:
        source: An fp32 graph, exported by vitrify: nodes are named after their modules.
        batches: Gives the calibration images anew at each call.
        threads: Of ONNX Runtime while it measures; by default what it chooses.
        progress: Told of the layers whose weights are rounded.

    Raises:
        OptionError: The graph is quantised or in 16 bits already, or has no linear layers in blocks.
    """

    source: onnx.ModelProto
    batches: Batches
    threads: int | None = None
    progress: Progress = SILENT
    _magnitudes: dict[str, float] | None = field(default=None, repr=False)
    _prepared: dict[tuple[str, bool, Calibrator, Around, bool], _Prepared] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        lowered = sorted(
            {node.op_type for node in self.source.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
            | {"16-bit weights" for w in self.source.graph.initializer if w.data_type in (10, 16)}
        )
        if lowered:
            raise OptionError(
                "the graph has a lower precision already",
                got=", ".join(lowered),
                expected="an fp32 graph",
                hint="give the file that vitrify export made",
            )
        if not linear_layers(self.source.graph):
            raise OptionError(
                "no linear layer of a transformer block is found in the graph",
                got=f"nodes such as {', '.join(node.name or node.op_type for node in self.source.graph.node[:3])}",
                expected="nodes named blocks.N.…, as vitrify export names them",
                hint="export the checkpoint with vitrify export",
            )

    @property
    def blocks(self) -> tuple[str, ...]:
        """The transformer blocks, in order."""
        return tuple(dict.fromkeys(p for p in map(part_of, (n.name for n in self.source.graph.node)) if is_block(p)))

    def require_parts(self, parts: Sequence[str]) -> None:
        """Refuses parts that are no blocks of this network.

        Raises:
            OptionError: Names the first.
        """
        unknown = [part for part in parts if part not in self.blocks]
        if unknown:
            raise OptionError(f"there is no {unknown[0]} to keep", expected=f"{self.blocks[0]} to {self.blocks[-1]}")

    def rewrite(self, recipe: Recipe) -> Rewritten:
        """Carries out a recipe.

        Raises:
            OptionError: A part to keep that is not there, or options that do not go together.
            ArtifactError: The source computes numbers that are not finite.
        """
        self.require_parts(recipe.keep)
        if recipe.around != "fp32" and opset_of(self.source) < WHOLE_NORM_OPSET:
            raise OptionError(
                f"a graph of opset {opset_of(self.source)} cannot have {recipe.around} around 8 bits",
                expected=f"opset {WHOLE_NORM_OPSET} or newer, where a norm is one node",
                hint="export it without --opset; TensorRT 8 gives fp16 to the rest by flags",
            )
        if recipe.precision in _HALVES:
            return self._halved(recipe)
        return self._quantized(recipe)

    def _halved(self, recipe: Recipe) -> Rewritten:
        proto = copy_of(self.source)
        notes = _lower(
            proto, _HALVES[recipe.precision], recipe, self.magnitudes() if recipe.precision == "fp16" else {}
        )
        return Rewritten(proto=proto, notes=notes)

    def magnitudes(self) -> dict[str, float]:
        """The largest magnitude of every float tensor on the calibration images."""
        if self._magnitudes is None:
            self._magnitudes = observe_magnitudes(
                self.source, float_tensors(self.source), self.batches, threads=self.threads
            )
        return self._magnitudes

    def _quantized(self, recipe: Recipe) -> Rewritten:
        kind = _EIGHTS[recipe.precision]
        prepared = self._prepare(kind, recipe)
        proto = copy_of(prepared.proto)
        half = _HALVES.get(recipe.around)
        layers = QuantizedLayers(
            proto,
            kind,
            ranges=prepared.ranges,
            weights=prepared.weights,
            scale_type=half.dtype if half is not None else np.float32,
            keep=recipe.keep,
            keep_attention=recipe.keep_attention,
        )
        if not layers.apply():
            raise OptionError("every block is to be kept: nothing is left to quantize", hint="keep fewer")
        notes = _lower(proto, half, recipe, prepared.magnitudes, keep=False) if half is not None else ()
        return Rewritten(proto=proto, smoothed=prepared.smoothed, notes=notes)

    def _prepare(self, kind: QuantizedType, recipe: Recipe) -> _Prepared:
        key = (kind.name, recipe.smooth, recipe.calibrator, recipe.around, recipe.split_qkv)
        if key not in self._prepared:
            proto = copy_of(self.source)
            layers = linear_layers(proto.graph)
            activations = list(dict.fromkeys(layer.activation for layer in layers))
            observed = observe_channels(proto, activations, self.batches, threads=self.threads)
            smoothed: tuple[Smoothed, ...] = ()
            if recipe.smooth:
                smoothed, observed = smooth(proto, layers, observed, kind)
            tops = {tensor: seen.largest for tensor, seen in observed.items()}
            ranges = tops
            if recipe.calibrator != "max":
                histograms = observe_histograms(proto, tops, self.batches, threads=self.threads)
                ranges = {
                    tensor: choose_range(histograms[tensor], top, kind, recipe.calibrator)
                    for tensor, top in tops.items()
                }
            if (recipe.around != "fp32" or kind is FP8) and opset_of(proto) < HALF_QDQ_OPSET:
                proto = version_converter.convert_version(proto, HALF_QDQ_OPSET)
            if recipe.split_qkv:
                SplitQkv(proto).apply()
            weights = rounded_weights(
                proto.graph,
                linear_layers(proto.graph),
                kind,
                rows={tensor: seen.sample for tensor, seen in observed.items()},
                scale_type=np.float32 if recipe.around == "fp32" else _HALVES[recipe.around].dtype,
                progress=self.progress,
            )
            magnitudes = {}
            if recipe.around == "fp16":
                # Of this graph: smoothing and taking apart made tensors that the source does not have.
                magnitudes = observe_magnitudes(proto, float_tensors(proto), self.batches, threads=self.threads)
            self._prepared[key] = _Prepared(proto, ranges, weights, magnitudes, smoothed)
        return self._prepared[key]


def _lower(
    proto: onnx.ModelProto, half: HalfType, recipe: Recipe, magnitudes: dict[str, float], *, keep: bool = True
) -> tuple[str, ...]:
    casts = Casts(
        proto,
        half,
        magnitudes=magnitudes,
        residual_fp32=recipe.residual_fp32,
        attention_fp32=recipe.attention_fp32 or recipe.keep_attention,
        keep_parts=recipe.keep if keep else (),
        narrow=recipe.narrow,
    )
    casts.apply()
    notes = []
    if casts.large:
        notes.append(
            f"{len(casts.large)} tensors are too large for {half.name} and stay in fp32, such as {casts.large[0]}"
        )
    if casts.unknown:
        notes.append(f"no rule for {', '.join(sorted(casts.unknown))}: kept in fp32")
    return tuple(notes)


def graph_for_engine(
    content: bytes,
    spec: ModelSpec,
    choice: EnginePrecision,
    release: Release,
    *,
    batches: Batches,
    progress: Progress = SILENT,
) -> tuple[bytes, ModelSpec]:
    """Gives an fp32 graph 16-bit types where the graph decides, and writes 8-bit weights as floats for TensorRT 8.

    Args:
        content: An ONNX file.
        spec: Its spec.
        choice: The precision that was asked for.
        release: What will build.
        batches: Images that magnitudes are measured on, for fp16.
        progress: Told what was done.

    Returns:
        The file's bytes, rewritten where that was needed, and the spec that fits them.
    """
    if spec.precision == "int8" and not release.int8_weights:
        return with_float_weights(onnx.load_from_string(content)).SerializeToString(), spec
    if not release.strongly_typed or spec.precision != "fp32" or choice not in ("fp16", "bf16"):
        return content, spec
    progress.say(f"giving the graph the types of {choice}")
    rewritten = Rewriter(onnx.load_from_string(content), batches).rewrite(Recipe(precision=choice))
    for note in rewritten.notes:
        progress.say(note)
    return rewritten.proto.SerializeToString(), spec.replace(precision=choice)
