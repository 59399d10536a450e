"""`ModelSpec`: everything that inference needs, typed and versioned, inside the artifact itself."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vitrify.errors import OptionError, SpecError, SpecVersionError
from vitrify.spec.codec import decode, encode
from vitrify.spec.search import PRECISION_SEARCH, Precision, PrecisionSearch
from vitrify.spec.verification import Verification

SPEC_VERSION = 2
"""Goes up with every change of a field's name or meaning; a reader refuses another one. New things are extensions."""

SPEC_KEY = "vitrify.spec"
"""Where the JSON text lives: ONNX `metadata_props` and safetensors `__metadata__`."""

MAX_SPEC_BYTES = 8 << 20
"""Of the JSON text; 21,843 classes with long names and three golden vectors take 3 MB."""

MAX_SPEC_DEPTH = 32
"""Objects and lists inside each other; a spec has eight."""

MAX_SIDE = (1 << 14) - 1
"""Pixels of the longest side: the golden generator packs a row and a column into 14 bits each."""

ResizeRule = Literal["shortest", "squash", "longest"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Task = Literal["single-label", "multi-label"]
_EXTENSION = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")
KwargValue = int | float | bool | str | tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """From decoded RGB pixels to the network's input, as timm's and torchvision's evaluation transforms do it.

    Attributes:
        resize_rule: `shortest` scales the image, keeping its shape, until it just covers the resize box, then crops the
            centre; `squash` scales to the box exactly, ignoring the shape; `longest` scales until the image just fits
            into the box, then pads with `fill`.
        resize_height: Height of the resize box in pixels.
        resize_width: Width of the resize box in pixels.
        crop_height: Height of the centre crop in pixels: the network's input.
        crop_width: Width of the centre crop in pixels: the network's input.
        interpolation: Pillow's filter of that name, antialiased.
        mean: Subtracted from each channel (R, G, B) after scaling to 0..1.
        std: Each channel is divided by it after that.
        fill: 0..255 for each channel, where padding is needed.
    """

    resize_rule: ResizeRule
    resize_height: int
    resize_width: int
    crop_height: int
    crop_width: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        sizes = (self.resize_height, self.resize_width, self.crop_height, self.crop_width)
        if min(sizes) < 1 or max(sizes) > MAX_SIDE:
            raise SpecError("a preprocessing size cannot be", got=sizes, expected=f"1 to {MAX_SIDE} pixels each")
        if not all(math.isfinite(m) for m in self.mean) or not all(math.isfinite(s) and s > 0 for s in self.std):
            raise SpecError(
                "the normalisation is unusable", got=f"mean={self.mean}, std={self.std}", expected="finite, std above 0"
            )

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> Preprocess:
        """Reads timm's data config (`timm.data.resolve_model_data_config`) with timm's own rounding.

        Args:
            config: `input_size` (3, H, W), `interpolation`, `mean`, `std`, `crop_pct`, `crop_mode`.

        Raises:
            OptionError: An interpolation or a crop mode that this spec cannot carry.
        """
        channels, height, width = config["input_size"]
        rules: dict[str, ResizeRule] = {"center": "shortest", "squash": "squash", "border": "longest"}
        mode = config.get("crop_mode") or "center"
        if mode not in rules or config["interpolation"] not in get_args(Interpolation) or channels != 3:
            raise OptionError(
                "the model's data config names a transform that a spec cannot carry",
                got=f"crop_mode={mode}, interpolation={config['interpolation']}, channels={channels}",
                expected=f"crop_mode {'|'.join(rules)}, interpolation {'|'.join(get_args(Interpolation))}, 3 channels",
            )
        crop_pct = config.get("crop_pct") or 0.875  # timm.data.constants.DEFAULT_CROP_PCT
        mean = _triple(config["mean"])
        red, green, blue = (round(255 * m) for m in mean)
        return cls(
            resize_rule=rules[mode],
            resize_height=math.floor(height / crop_pct),
            resize_width=math.floor(width / crop_pct),
            crop_height=height,
            crop_width=width,
            interpolation=config["interpolation"],
            mean=mean,
            std=_triple(config["std"]),
            fill=(red, green, blue) if mode == "border" else (0, 0, 0),
        )


_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def _check_json(text: str | bytes) -> None:
    """The limits on a spec's text, before it becomes objects."""
    if len(text) > MAX_SPEC_BYTES:
        raise SpecError("the model spec is too large", got=len(text), expected=f"at most {MAX_SPEC_BYTES}")
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text if isinstance(text, str) else text.decode("utf-8", "replace")):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token.group(), 0)
        if depth > MAX_SPEC_DEPTH:
            raise SpecError(
                "the model spec is nested too deeply", got="more levels", expected=f"at most {MAX_SPEC_DEPTH}"
            )


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The network's input tensor.

    Attributes:
        name: Tensor name.
        dtype: NumPy's name of the element type.
        layout: Axis order; the batch axis is dynamic.
        channels: 3, in the order R, G, B.
        height: Pixels.
        width: Pixels.
    """

    name: str = "image"
    dtype: Literal["float32", "float16"] = "float32"
    layout: Literal["NCHW"] = "NCHW"
    channels: Literal[3] = 3
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """The network's output tensor, `[B, classes]`.

    Attributes:
        name: Tensor name.
        kind: What the numbers are before any post-processing.
        task: `single-label` (softmax) or `multi-label` (sigmoid).
    """

    name: str = "logits"
    kind: Literal["logits", "probabilities"] = "logits"
    task: Task = "single-label"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the weights come from.

    Attributes:
        architecture: timm's model name.
        model_kwargs: What `timm.create_model` needs beside the name to make the same shapes.
        checkpoint: File name of the weights this was made from, empty where there is none.
        checkpoint_sha256: 64 hexadecimal digits, empty where there is none.
        dialect: Whose tensor names that file used: vitrify, timm, tutorial, huggingface, jax.
        created_by: The program and version that wrote this artifact.
    """

    architecture: str
    model_kwargs: dict[str, KwargValue]
    checkpoint: str = ""
    checkpoint_sha256: str = ""
    dialect: str = ""
    created_by: str = ""


@dataclass(frozen=True, kw_only=True)
class GoldenVector:
    """An input that a ten-line integer generator makes, and the logits that PyTorch gave for it in fp32.

    Attributes:
        seed: First number of the generator (see `vitrify.spec.golden`).
        cell: Side in pixels of the equal-valued squares that the input consists of.
        logits: `[classes]` of PyTorch, fp32.
    """

    seed: int
    cell: int
    logits: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything that inference needs, inside the artifact. `docs/reference/spec.md` is the format's one page.

    Attributes:
        version: `SPEC_VERSION` of the writer.
        input: The input tensor.
        preprocess: From pixels to that tensor.
        output: The output tensor.
        labels: One name a class, in the order of the logits.
        source: Where the weights come from.
        precision: Arithmetic of the graph itself.
        saturation_free: Whether it is proven that 8-bit products of the graph cannot saturate on any x86 processor
            (`vitrify.graphs.saturation`).
        golden: Inputs with known answers.
        verification: What was measured when this was written; absent in a checkpoint.
        file_sha256: Of the whole file with these 64 digits replaced by zeros; empty where the spec is in no such file.
            It says nothing of the model, so that two specs may differ in it and be equal.
        extensions: JSON values under names of the form `owner.name`, which a reader that does not know them skips.
    """

    version: int = SPEC_VERSION
    input: InputSpec
    preprocess: Preprocess
    output: OutputSpec = OutputSpec()
    labels: tuple[str, ...]
    source: Source
    precision: Precision = "fp32"
    saturation_free: bool = False
    golden: tuple[GoldenVector, ...] = ()
    verification: Verification | None = None
    file_sha256: str = dataclasses.field(default="", compare=False)
    extensions: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.extensions:
            if not _EXTENSION.fullmatch(name):
                raise SpecError(
                    "an extension of the spec has no owner in its name", got=repr(name), expected="such as acme.note"
                )
        crop = (self.preprocess.crop_height, self.preprocess.crop_width)
        if crop != (self.input.height, self.input.width):
            raise SpecError("preprocessing and input disagree", got=f"crop {crop}", expected=f"{self.input_shape[1:]}")
        if not self.labels:
            raise SpecError("a model without labels", got="0 labels", expected="one name a class")
        for vector in self.golden:
            if len(vector.logits) != len(self.labels):
                raise SpecError(
                    "a golden vector and the labels disagree",
                    got=f"{len(vector.logits)} logits",
                    expected=f"{len(self.labels)}, one a label",
                )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(channels, height, width)` of one image."""
        return self.input.channels, self.input.height, self.input.width

    @property
    def precision_search(self) -> PrecisionSearch | None:
        """How the graph got a lower precision than fp32; None where it did not, or in words of another version."""
        try:
            return decode(PrecisionSearch, self.extensions[PRECISION_SEARCH], root=PRECISION_SEARCH)
        except (KeyError, SpecError):
            return None

    def extended(self, name: str, value: Any) -> ModelSpec:
        """A copy with one extension more, or another value of it: a dataclass, or what JSON can hold."""
        return self.replace(extensions={**self.extensions, name: encode(value)})

    def computed_in(self, asked: Precision) -> Precision:
        """What a runtime that was asked for a precision computes in: asked for fp32, it keeps to the graph's types."""
        return self.precision if asked == "fp32" else asked

    def to_json(self) -> str:
        """The spec as JSON text, the form that travels in files."""
        return json.dumps(encode(self), ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelSpec:
        """Reads `to_json`'s text, strictly.

        Raises:
            SpecError: No JSON, beyond `MAX_SPEC_BYTES` or `MAX_SPEC_DEPTH`, a missing or unknown field, or a value of
                another type; names the field.
            SpecVersionError: Written by a newer or an older vitrify.
        """
        _check_json(text)
        try:
            data = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise SpecError("the model spec is no JSON", got=error, hint="export the artifact again") from error
        version = data.get("version") if isinstance(data, dict) else None
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise SpecError("the model spec has no version", got=str(version), expected=str(SPEC_VERSION))
        if version != SPEC_VERSION:
            newer = version > SPEC_VERSION
            raise SpecVersionError(
                f"the model spec is {'newer' if newer else 'older'} than this vitrify",
                got=f"version {version}",
                expected=f"version {SPEC_VERSION}",
                hint="pip install --upgrade vitrify" if newer else "export the artifact again",
            )
        try:
            return decode(cls, data)
        except OverflowError as error:
            raise SpecError("the model spec has a number that is too large", got=error) from error

    def replace(self, **changes: Any) -> ModelSpec:
        """A copy with some fields changed, checked as a new one is."""
        return dataclasses.replace(self, **changes)
