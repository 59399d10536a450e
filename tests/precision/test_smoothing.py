"""Moving outlier channels changes nothing in fp32, and helps 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.precision import planted
from tests.precision.digits import SPEC, Digits, export
from vitrify.graphs import linear_layers
from vitrify.graphs.rewrites.qdq import INT8
from vitrify.pixels import preprocess
from vitrify.precision.observing import observe_channels, observe_histograms, observe_magnitudes
from vitrify.precision.smoothing import smooth, smoothing_scales


def logits(proto: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": batch})[0])


@pytest.mark.parametrize("opset", [18, 16])
@pytest.mark.parametrize("fault", ["channels", "massive"])
def test_the_function_stays_and_the_outliers_go(trained: Digits, tmp_path: Path, opset: int, fault: str) -> None:
    path = export(getattr(planted, fault)(trained.model), tmp_path / "m.onnx", opset=opset)
    proto = onnx.load(path)
    batch = preprocess(trained.calibration, SPEC.preprocess)
    before = logits(proto, batch)
    layers = linear_layers(proto.graph)
    observed = observe_channels(proto, [layer.activation for layer in layers], lambda: [batch])
    smoothed, after = smooth(proto, layers, observed, INT8)
    onnx.checker.check_model(proto, full_check=True)
    np.testing.assert_allclose(logits(proto, batch), before, rtol=1e-4, atol=1e-4)
    places = {layer.module.split(".", 2)[2]: layer.place for layer in smoothed}
    if fault == "channels":
        assert {"attn.qkv", "mlp.fc1"} <= places.keys()
        assert places["attn.qkv"] == places["mlp.fc1"] == "norm"
    else:
        assert places["mlp.fc2"] == "multiplication"
    assert all(layer.error_ratio < 0.95 for layer in smoothed)
    worst = "attn.qkv" if fault == "channels" else "mlp.fc2"
    tensor = next(layer.activation for layer in layers if layer.module.endswith(worst))
    assert after[tensor].largest < 0.2 * observed[tensor].largest
    # What is said of the new magnitudes is what the new graph has.
    seen = observe_magnitudes(proto, list(after), lambda: [batch])
    for name, activation in after.items():
        assert seen[name] == pytest.approx(activation.largest, rel=1e-3)


def test_scales_are_powers_of_two_and_follow_the_paper() -> None:
    channels = np.array([1.0, 64.0, 0.0], np.float32)
    weights = np.ones((3, 4), np.float32)
    scales = smoothing_scales(channels, weights, 0.5)
    assert scales[1] / scales[0] == 8  # sqrt(64)
    assert scales[2] == 1
    assert (np.exp2(np.rint(np.log2(scales))) == scales).all()


def test_observing_in_pieces_is_observing_at_once(trained: Digits) -> None:
    proto = onnx.load(trained.onnx)
    batch = preprocess(trained.calibration, SPEC.preprocess)
    names = [layer.activation for layer in linear_layers(proto.graph)]

    def pieces() -> Iterator[np.ndarray]:
        for start in range(0, len(batch), 7):
            yield batch[start : start + 7]

    whole, split = (observe_channels(proto, names, batches) for batches in (lambda: [batch], pieces))
    for name in names:
        np.testing.assert_allclose(whole[name].channels, split[name].channels, rtol=1e-4)
        # The last block has one row an image, its class token; all of those are kept, as they are fewer than 1024.
        rows = 1024 if whole[name].sample.shape[0] == 1024 else len(batch)
        assert whole[name].sample.shape == split[name].sample.shape == (rows, len(whole[name].channels))
    assert {len(seen.sample) for seen in whole.values()} == {1024, len(batch)}
    tops = {name: float(seen.channels.max()) for name, seen in whole.items()}
    one, many = (observe_histograms(proto, tops, batches) for batches in (lambda: [batch], pieces))
    for name in names:
        assert one[name].sum() == many[name].sum()
        assert np.abs(one[name] - many[name]).sum() < 0.001 * one[name].sum()
