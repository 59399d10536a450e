"""The quantizers of benchmarks/precision.py, each run in a process and an environment of its own.

    PYTHON benchmarks/quantizers.py REQUEST.json

The request names one of `RECIPES`, the fp32 ONNX file, a `.npy` of calibration images `[N, 3, H, W]` float32 that
vitrify prepared, and where the file goes. The last line that is printed is JSON: seconds and the growth of
the process's memory to its peak in MB, both without imports, and a note.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 8
"""Images that a tool sees at once where it asks for batches: what vitrify's own calibration takes."""

Request = dict[str, Any]
Recipe = Callable[[Request], Callable[[], str]]
"""Imports what it needs, and gives the call that is timed; that gives a note."""


def batches(request: Request) -> Iterator[Any]:
    """The calibration images, a few at a time."""
    images = np.load(request["calibration"])
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]


def input_name(request: Request) -> str:
    """The graph's only input."""
    import onnx

    return str(onnx.load(request["source"], load_external_data=False).graph.input[0].name)


def vitrify_int8(request: Request) -> Callable[[], str]:
    """`vitrify quantize --to int8`, which judges too, on the calibration images and without a limit on speed.

    Random weights have no answers to judge: there the first recipe is carried out and that is all.
    """
    import onnx

    from vitrify.precision import Recipe, Rewriter
    from vitrify.workflows.quantize import Limits, QuantizeConfig, quantized_from_onnx

    recipe = Recipe(precision="int8")
    limits = Limits(min_speedup=None)
    config = QuantizeConfig(recipe=recipe, fallback=False, limits=limits, threads=request["threads"])

    def judged() -> str:
        result = quantized_from_onnx(
            request["source"],
            request["output"],
            calibration=[Path(path) for path in request["calibration_images"]],
            config=config,
        )
        result.require_found(Path(request["source"]))
        return f"{result.search.attempts[-1].recipe}; the seconds include judging"

    def rewritten() -> str:
        done = Rewriter(onnx.load(request["source"]), lambda: batches(request)).rewrite(recipe)
        onnx.save(done.proto, request["output"])
        return f"{recipe}; not judged"

    return judged if request["trained"] else rewritten


def onnxruntime_static(method: str, activation: str, *, only: tuple[str, ...] = ()) -> Recipe:
    """`quantize_static` after `quant_pre_process`: Q/DQ, a scale a channel of weights, everything else by default.

    With `only`, these operators alone, and their biases in floats, as a user would ask who knows where it pays.
    """

    def prepare(request: Request) -> Callable[[], str]:
        # It loads PyTorch where there is one, which is none of the tool's own work.
        import onnxruntime.tools.symbolic_shape_infer  # noqa: F401
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process

        name = input_name(request)

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.batches = batches(request)

            def get_next(self) -> Any:
                batch = next(self.batches, None)
                return None if batch is None else {name: batch}

        def run() -> str:
            prepared = f"{request['output']}.prepared.onnx"
            quant_pre_process(request["source"], prepared)
            symmetric = activation == "QInt8"
            quantize_static(
                prepared,
                request["output"],
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=getattr(QuantType, activation),
                weight_type=QuantType.QInt8,
                calibrate_method=getattr(CalibrationMethod, method),
                op_types_to_quantize=list(only) or None,
                extra_options={
                    "ActivationSymmetric": symmetric,
                    "WeightSymmetric": True,
                    **({"QuantizeBias": False} if only else {}),
                },
            )
            return "activations and weights symmetric" if symmetric else "activations with zero points"

        return run

    return prepare


def onnxruntime_dynamic(request: Request) -> Callable[[], str]:
    """`quantize_dynamic` after `quant_pre_process`: activations get their scale anew in each inference."""
    import onnxruntime.tools.symbolic_shape_infer  # noqa: F401 (as above)
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    def run() -> str:
        prepared = f"{request['output']}.prepared.onnx"
        quant_pre_process(request["source"], prepared)
        quantize_dynamic(prepared, request["output"], per_channel=True, weight_type=QuantType.QInt8)
        return "no calibration"

    return run


def nncf(form: str, *, smooth: bool = True, preset: str | None = None) -> Recipe:
    """`nncf.quantize` with the transformer's model type, which turns SmoothQuant on; from OpenVINO's form or ONNX.

    Its preset for transformers is `mixed`: activations with zero points. `performance` makes all of it symmetric.
    """

    def prepare(request: Request) -> Callable[[], str]:
        import nncf
        import onnx
        import openvino
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

        name = input_name(request)
        images = np.load(request["calibration"])
        options: dict[str, Any] = {} if preset is None else {"preset": nncf.QuantizationPreset(preset)}
        if not smooth:
            off = AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
            options["advanced_parameters"] = AdvancedQuantizationParameters(smooth_quant_alphas=off)

        def run() -> str:
            read = openvino.Core().read_model if form == "OpenVINO" else onnx.load
            done = nncf.quantize(
                read(request["source"]),
                # One image at a time: NNCF warns that statistics over batches may be wrong for some operators.
                nncf.Dataset(images, lambda image: {name: image[None]}),
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(images),
                **options,
            )
            if form == "OpenVINO":
                openvino.save_model(done, request["output"], compress_to_fp16=False)
            else:
                onnx.save(done, request["output"])
            return f"preset {preset or 'mixed, its default for transformers'}"

        return run

    return prepare


def modelopt(method: str, around: str) -> Recipe:
    """ModelOpt's ONNX post-training quantisation on the CPU."""

    def prepare(request: Request) -> Callable[[], str]:
        from modelopt.onnx.quantization import quantize

        images = np.load(request["calibration"])

        def run() -> str:
            # It cuts the data into batches itself: of one, as the exported axis is dynamic.
            quantize(
                request["source"],
                quantize_mode="int8",
                calibration_data={input_name(request): images},
                calibration_method=method,
                calibration_eps=["cpu"],
                high_precision_dtype=around,
                output_path=request["output"],
                log_level="WARNING",
            )
            return f"{around} around"

        return run

    return prepare


def autocast(request: Request) -> Callable[[], str]:
    """ModelOpt's AutoCast to fp16, with the calibration images as its reference."""
    import onnx
    from modelopt.onnx.autocast import convert_to_mixed_precision

    def run() -> str:
        data = f"{request['output']}.npz"
        np.savez(data, **{input_name(request): np.load(request["calibration"])[:BATCH]})
        done = convert_to_mixed_precision(
            request["source"], low_precision_type="fp16", calibration_data=data, keep_io_types=True
        )
        onnx.save(done, request["output"])
        return "inputs and outputs fp32"

    return run


def timmx(request: Request) -> Callable[[], str]:
    """The int8 of timmx for TensorRT, by torchao, up to the ONNX file that it would hand to TensorRT.

    Its command builds an engine from that file and deletes it, on a GPU alone; so its own function is called here.
    """
    import torch
    from timmx.export.tensorrt_backend import _quantize_int8

    from vitrify.checkpoints import load_checkpoint

    model = load_checkpoint(Path(request["checkpoint"])).model.eval()
    images = torch.from_numpy(np.load(request["calibration"]))
    torch.set_num_threads(request["threads"])

    def run() -> str:
        shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
        example = images[:2]
        quantized = _quantize_int8(model, example, list(images.split(BATCH)), shapes)
        torch.onnx.export(
            quantized,
            (example,),
            f=request["output"],
            opset_version=18,
            input_names=["input"],
            output_names=["output"],
            dynamo=True,
            external_data=False,
        )
        return "the ONNX file on the way to TensorRT"

    return run


RECIPES: dict[str, Recipe] = {
    "vitrify int8": vitrify_int8,
    "onnxruntime static MinMax": onnxruntime_static("MinMax", "QInt8"),
    "onnxruntime static MinMax, products only": onnxruntime_static("MinMax", "QInt8", only=("MatMul", "Gemm")),
    "onnxruntime static MinMax U8S8": onnxruntime_static("MinMax", "QUInt8"),
    "onnxruntime static Entropy": onnxruntime_static("Entropy", "QInt8"),
    "onnxruntime static Percentile": onnxruntime_static("Percentile", "QInt8"),
    "onnxruntime dynamic": onnxruntime_dynamic,
    "NNCF": nncf("OpenVINO"),
    "NNCF without SmoothQuant": nncf("OpenVINO", smooth=False),
    "NNCF from ONNX": nncf("ONNX"),
    "NNCF from ONNX, performance": nncf("ONNX", preset="performance"),
    "ModelOpt int8 entropy": modelopt("entropy", "fp32"),
    "ModelOpt int8 max": modelopt("max", "fp32"),
    "ModelOpt int8 entropy, fp16 around": modelopt("entropy", "fp16"),
    "ModelOpt AutoCast fp16": autocast,
    "timmx int8": timmx,
}


def memory_mb(what: str) -> float:
    """`VmRSS`, now, or `VmHWM`, the peak; `getrusage` would count what the parent had before exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{what}:")[2].split()[0]) * 1024 / 1e6


def main(path: str) -> None:
    """Carries out one request."""
    request = json.loads(Path(path).read_text(encoding="utf-8"))
    call = RECIPES[request["recipe"]](request)
    start, before = time.perf_counter(), memory_mb("VmRSS")
    note = call()
    report = {"seconds": time.perf_counter() - start, "memory_mb": memory_mb("VmHWM") - before, "note": note}
    print("\n" + json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
