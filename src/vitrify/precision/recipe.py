"""A recipe says how a graph gets a lower precision; a `Rewriter` carries recipes out and measures each thing once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from onnx import version_converter

from vitrify.errors import OptionError
from vitrify.graphs import copy_of, is_block, opset_of, part_of
from vitrify.precision.attention import split_qkv
from vitrify.precision.casting import insert_casts
from vitrify.precision.half import BF16, FP16, HalfType, plan_casts
from vitrify.precision.linear import LinearLayer, linear_layers
from vitrify.precision.observing import (
    Batches,
    float_tensors,
    observe_channels,
    observe_histograms,
    observe_magnitudes,
)
from vitrify.precision.qdq import FP8, INT8, QuantizedType, insert_qdq, rounded_weights
from vitrify.precision.ranges import Calibrator, choose_range
from vitrify.precision.rounding import Rounded
from vitrify.precision.smoothing import Smoothed, smooth
from vitrify.progress import SILENT, Progress

Target = Literal["fp16", "bf16", "int8", "fp8"]
Around = Literal["fp32", "fp16", "bf16"]

WHOLE_NORM_OPSET = 17
"""LayerNormalization is one node since; in steps, ONNX Runtime fuses it across the casts around it, and fails."""

HALF_QDQ_OPSET = 21
"""Q/DQ nodes with 16-bit scales, and FLOAT8: in the opset that ONNX Runtime, OpenVINO and TensorRT 10 all read."""

_HALVES: dict[str, HalfType] = {"fp16": FP16, "bf16": BF16}
_EIGHTS: dict[str, QuantizedType] = {"int8": INT8, "fp8": FP8}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to lower the precision of an fp32 graph.

    Attributes:
        precision: What linear layers are to compute in.
        around: With int8 and fp8, what everything else computes in.
        calibrator: With int8 and fp8, how the ranges of activations are chosen.
        smooth: With int8 and fp8, whether outlier channels are moved into weights first.
        residual_fp32: In 16 bits, whether the sums of the residual stream stay in fp32.
        attention_fp32: In 16 bits, whether attention stays in fp32 from the scores to the weighted values.
        keep_attention: With int8 and fp8, whether attention stays out as a whole: its linear layers as they are, and
            with 16 bits around, what lies between the scores and the weighted values in fp32.
        split_qkv: With int8 and fp8, whether queries, keys and values get a product each, which TensorRT wants.
        keep: Parts, such as `blocks.3`, that stay as they are: 16 bits leaves them in fp32, 8 bits in `around`.
        narrow: Whether the graph takes and gives the 16-bit type instead of fp32.
    """

    precision: Target
    around: Around = "fp32"
    calibrator: Calibrator = "mse"
    smooth: bool = True
    residual_fp32: bool = False
    attention_fp32: bool = False
    keep_attention: bool = False
    split_qkv: bool = False
    keep: tuple[str, ...] = ()
    narrow: bool = False

    def __str__(self) -> str:
        said: list[str] = [self.precision]
        if self.precision in _EIGHTS:
            said += [f"{self.calibrator} ranges"] + ["smoothed"] * self.smooth
            said += [f"{self.around} around"] * (self.around != "fp32") + ["qkv apart"] * self.split_qkv
        said += ["residual fp32"] * self.residual_fp32 + ["attention fp32"] * self.attention_fp32
        said += ["attention kept"] * self.keep_attention
        if self.keep:
            said.append(f"{', '.join(self.keep)} kept")
        return ", ".join(said)


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
        chosen = [layer for layer in linear_layers(proto.graph) if not _is_kept(layer, recipe)]
        if not chosen:
            raise OptionError("every block is to be kept: nothing is left to quantize", hint="keep fewer")
        if recipe.around == "fp32":
            insert_qdq(proto, chosen, prepared.ranges, weights=prepared.weights, kind=kind)
            return Rewritten(proto=proto, smoothed=prepared.smoothed)
        half = _HALVES[recipe.around]
        insert_qdq(proto, chosen, prepared.ranges, weights=prepared.weights, kind=kind, scale_type=half.dtype)
        notes = _lower(proto, half, recipe, prepared.magnitudes, keep=False)
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
                split_qkv(proto)
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


def _is_kept(layer: LinearLayer, recipe: Recipe) -> bool:
    # BEiT multiplies in the attention module itself: its qkv has no module of its own.
    return layer.part in recipe.keep or (recipe.keep_attention and "attn" in layer.module.split("."))


def _lower(
    proto: onnx.ModelProto, half: HalfType, recipe: Recipe, magnitudes: dict[str, float], *, keep: bool = True
) -> tuple[str, ...]:
    plan = plan_casts(
        proto,
        half,
        magnitudes=magnitudes,
        residual_fp32=recipe.residual_fp32,
        attention_fp32=recipe.attention_fp32 or recipe.keep_attention,
        keep_parts=recipe.keep if keep else (),
    )
    insert_casts(proto, half, plan, narrow=recipe.narrow)
    notes = []
    if plan.large:
        notes.append(
            f"{len(plan.large)} tensors are too large for {half.name} and stay in fp32, such as {plan.large[0]}"
        )
    if plan.unknown:
        notes.append(f"no rule for {', '.join(plan.unknown)}: kept in fp32")
    return tuple(notes)
