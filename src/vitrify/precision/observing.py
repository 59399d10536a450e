"""What flows through a graph on calibration images: magnitudes, samples, histograms, and the ranges that follow.

Memory is bounded by the batch: magnitudes are reduced inside the graph, and of everything else a fixed amount is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from vitrify.errors import ArtifactError
from vitrify.graphs import FloatArray, copy_of, element_types
from vitrify.graphs.rewrites.qdq import QuantizedType

Calibrator = Literal["mse", "max"]
"""How the range of an activation that 8 bits cover is chosen: of least squared error, or whole."""

_CANDIDATES = 128

BINS = 2048
"""Of a histogram: enough to place a range to a thousandth, as in TensorRT's and ONNX Runtime's calibrators."""

Batches = Callable[[], Iterable[FloatArray]]
"""Gives the calibration images anew at each call, `[B, 3, H, W]` float32."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """An activation `[..., channels]` over all calibration images.

    Attributes:
        channels: Largest magnitude of each channel, `[channels]`.
        sample: Rows drawn evenly from all that there were, in no order, `[at most 1024, channels]`.
    """

    channels: FloatArray
    sample: FloatArray

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return float(self.channels.max())

    def divided_by(self, scales: FloatArray) -> Observed:
        """As it would be with each channel divided by a scale, `[channels]`."""
        return Observed(channels=self.channels / scales, sample=self.sample / scales)


def observe_magnitudes(
    proto: onnx.ModelProto, tensors: Sequence[str], batches: Batches, *, threads: int | None = None
) -> dict[str, float]:
    """The largest magnitude of each float tensor, over all images.

    Args:
        proto: The graph.
        tensors: Names of tensors that it computes.
        batches: The images.
        threads: Of ONNX Runtime; by default what it chooses.

    Raises:
        ArtifactError: A tensor is not finite: the graph itself is at fault.
    """
    names = {tensor: f"{tensor}__largest" for tensor in tensors}
    reducers = []
    for tensor, name in names.items():
        reducers.append(helper.make_node("Abs", [tensor], [f"{name}_abs"]))
        reducers.append(helper.make_node("ReduceMax", [f"{name}_abs"], [name], keepdims=0))
    largest = dict.fromkeys(tensors, 0.0)
    for values in _run(proto, list(names.values()), batches(), threads, further=reducers):
        for tensor, value in zip(names, values, strict=True):
            # max() would drop a NaN, depending on the order.
            largest[tensor] = float(np.maximum(largest[tensor], value))
    _require_finite(largest)
    return largest


def observe_channels(
    proto: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Batches,
    *,
    rows: int = 1024,
    seed: int = 0,
    threads: int | None = None,
) -> dict[str, Observed]:
    """The largest magnitude of each channel, and a sample of rows.

    Args:
        proto: The graph.
        tensors: Names of `[..., channels]` tensors.
        batches: The images.
        rows: How many to keep of each tensor.
        seed: Of the draw.
        threads: Of ONNX Runtime; by default what it chooses.

    Raises:
        ArtifactError: A tensor is not finite.
    """
    rng = np.random.default_rng(seed)
    channels: dict[str, FloatArray] = {}
    samples: dict[str, tuple[npt.NDArray[np.float64], FloatArray]] = {}
    for values in _run(proto, tensors, batches(), threads):
        for tensor, value in zip(tensors, values, strict=True):
            flat = value.reshape(-1, value.shape[-1])
            most = np.abs(flat).max(axis=0)
            channels[tensor] = np.maximum(channels[tensor], most) if tensor in channels else most
            # Every row gets a random number, and the lowest stay: each row is as likely as any other to be kept.
            keys = rng.random(len(flat))
            lowest = np.argsort(keys)[:rows]
            keys, drawn = keys[lowest], flat[lowest]
            if tensor in samples:
                keys, drawn = np.append(samples[tensor][0], keys), np.append(samples[tensor][1], drawn, axis=0)
                lowest = np.argsort(keys)[:rows]
                keys, drawn = keys[lowest], drawn[lowest]
            samples[tensor] = keys, drawn
    observed = {tensor: Observed(channels=channels[tensor], sample=samples[tensor][1]) for tensor in tensors}
    _require_finite({tensor: seen.largest for tensor, seen in observed.items()})
    return observed


def observe_histograms(
    proto: onnx.ModelProto, tops: Mapping[str, float], batches: Batches, *, threads: int | None = None
) -> dict[str, npt.NDArray[np.int64]]:
    """How often each magnitude occurs, in `BINS` equal bins from 0 to a top.

    Args:
        proto: The graph.
        tops: For each tensor, the magnitude where its last bin ends; what is above counts as that bin's.
        batches: The images.
        threads: Of ONNX Runtime; by default what it chooses.
    """
    found = {tensor: np.zeros(BINS, np.int64) for tensor in tops}
    for values in _run(proto, list(tops), batches(), threads):
        for (tensor, top), value in zip(tops.items(), values, strict=True):
            bins = np.abs(value).ravel()
            bins *= BINS / max(top, float(np.finfo(np.float32).tiny))
            np.minimum(bins, BINS - 1, out=bins)
            found[tensor] += np.bincount(bins.astype(np.int32), minlength=BINS)
    return found


def choose_range(histogram: npt.NDArray[np.int64], top: float, kind: QuantizedType, calibrator: Calibrator) -> float:
    """The largest magnitude that shall be representable.

    Args:
        histogram: `[bins]` counts of magnitudes, in equal bins from 0 to `top`.
        top: Where the last bin ends.
        kind: The 8-bit type.
        calibrator: `mse`: least mean squared error after rounding and clipping. `max`: all.
    """
    if calibrator == "max" or top <= 0 or not histogram.any():
        return top
    return _least_squares(histogram, top, kind)


def _least_squares(histogram: npt.NDArray[np.int64], top: float, kind: QuantizedType) -> float:
    bins = len(histogram)
    centres = ((np.arange(bins) + 0.5) * top / bins).astype(np.float32)
    candidates = top * np.arange(1, _CANDIDATES + 1) / _CANDIDATES
    errors = [
        float((histogram * (kind.rounded(centres, limit / kind.largest) - centres).astype(np.float64) ** 2).sum())
        for limit in candidates
    ]
    return float(candidates[int(np.argmin(errors))])


def float_tensors(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the float32 tensors that nodes compute, in order."""
    types = element_types(proto)
    return tuple(name for node in proto.graph.node for name in node.output if types.get(name) == onnx.TensorProto.FLOAT)


def _run(
    proto: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Iterable[FloatArray],
    threads: int | None,
    further: Sequence[onnx.NodeProto] = (),
) -> Iterator[list[Any]]:
    import onnxruntime

    tapped = copy_of(proto)
    tapped.graph.node.extend(further)
    given_out = {value.name for value in tapped.graph.output}
    tapped.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors if name not in given_out
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for batch in batches:
        yield session.run(list(tensors), {name: batch})


def _require_finite(largest: Mapping[str, float]) -> None:
    bad = [tensor for tensor, value in largest.items() if not np.isfinite(value)]
    if bad:
        raise ArtifactError(
            "the model computes numbers that are not finite on the calibration images",
            got=f"{bad[0]} and {len(bad) - 1} more tensors" if len(bad) > 1 else bad[0],
            hint="vitrify verify MODEL --images …; the fault is in the model, not in its precision",
        )
