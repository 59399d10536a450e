#!/usr/bin/env python3
"""Checks an engine's runtime on this machine's GPU: what a stand-in for TensorRT cannot say.

    python scripts/check_engine.py model.engine

Prints a line a check and ends with 1 where one failed. Needs vitrify, NumPy, Pillow, TensorRT, cuda-bindings
and NVRTC.
"""

from __future__ import annotations

import concurrent.futures
import io
import itertools
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from vitrify.artifacts import manifest_path, read_manifest
from vitrify.classifier import Classifier, Failure
from vitrify.cuda import DeviceArray, Tensor, cuda
from vitrify.cuda.driver import launcher
from vitrify.cuda.images import ImageStages, preprocessing_cubin
from vitrify.errors import DeviceError, EngineError, RuntimeFailureError, VitrifyError
from vitrify.pixels import Decoders, preprocess
from vitrify.runtimes import infer_logits
from vitrify.runtimes.tensorrt import TensorRtOptions, TensorRtRuntime
from vitrify.spec import golden_batch, golden_logits

_SEEDS = itertools.count()


def images(runtime: TensorRtRuntime, count: int) -> np.ndarray:
    """Other images at every call: an answer to another batch, or in another row, is seen."""
    shape = (count, *runtime.spec.input_shape)
    return np.random.default_rng(next(_SEEDS)).standard_normal(shape, dtype=np.float32)


def closeness(runtime: TensorRtRuntime, answer: np.ndarray, truth: np.ndarray) -> str:
    error = float(np.abs(answer - truth).max() / np.abs(truth).max())
    limit = 1e-3 if runtime.spec.precision == "fp32" else 5e-2
    assert error < limit, f"relative error {error:.2g}, at most {limit} allowed"
    return f"relative error {error:.2g}"


def golden_vectors(path: Path) -> str:
    with TensorRtRuntime(path) as runtime:
        spec = runtime.spec
        return closeness(runtime, infer_logits(runtime, spec, golden_batch(spec)), golden_logits(spec))


def graphs_change_nothing(path: Path) -> str:
    with TensorRtRuntime(path) as one, TensorRtRuntime(path, TensorRtOptions(cuda_graphs=False)) as other:
        fitting = one.describe().fitting_batch
        sizes = [n for n in (1, 2, 3, 8, 1, 8, 64) if fitting(n) == n] or [fitting(1)]
        worst = 0.0
        for size in sizes:
            name = one.describe().outputs[0].name
            for _ in range(4):  # plain, recorded, replayed, replayed
                batch = {one.describe().inputs[0].name: images(one, size)}
                plain = other.infer(batch)[name]
                worst = max(worst, float(np.abs(one.infer(batch)[name] - plain).max() / np.abs(plain).max()))
        assert worst <= 1e-3, worst
        return f"batches {sizes}: largest difference {worst:.2g}"


def threads_share(path: Path) -> str:
    with TensorRtRuntime(path) as runtime, concurrent.futures.ThreadPoolExecutor(4) as pool:
        spec = runtime.spec
        batches = [images(runtime, 1 + n % 4) for n in range(48)]
        alone = [infer_logits(runtime, spec, batch) for batch in batches]
        together = list(pool.map(lambda batch: infer_logits(runtime, spec, batch), batches))
        worst = max(float(np.abs(a - b).max()) for a, b in zip(alone, together, strict=True))
        assert worst <= 1e-2 * max(float(np.abs(a).max()) for a in alone), worst
        return f"48 batches, 4 threads: largest difference {worst:.2g}"


def allocates_nothing_when_warm(path: Path) -> str:
    from cuda.bindings import runtime as cudart

    with TensorRtRuntime(path) as runtime:
        name = runtime.describe().inputs[0].name
        batch = {name: images(runtime, runtime.describe().fitting_batch(8))}
        for _ in range(5):
            runtime.infer(batch)
        before = cudart.cudaMemGetInfo()[1]
        for _ in range(500):
            runtime.infer(batch)
        after = cudart.cudaMemGetInfo()[1]
        assert before == after, f"{before - after} bytes"
        return "500 inferences, not a byte of GPU memory"


def stays_on_the_device(path: Path) -> str:
    with TensorRtRuntime(path) as runtime:
        gpu, batches = cuda(), [images(runtime, runtime.describe().fitting_batch(4)) for _ in range(4)]
        source, target = runtime.describe().inputs[0], runtime.describe().outputs[0]
        truths = [runtime.infer({source.name: batch})[target.name] for batch in batches]
        answer = np.zeros_like(truths[0])
        into = DeviceArray(address=gpu.allocate(answer.nbytes), shape=answer.shape, dtype=answer.dtype.name)
        stream, address = gpu.create_stream(), gpu.allocate(batches[0].nbytes)
        given = DeviceArray(address=address, shape=batches[0].shape, dtype="float32")
        for batch, truth in zip(batches, truths, strict=True):  # plain, recorded, replayed, replayed
            gpu.copy(address, batch.ctypes.data, batch.nbytes, stream)
            runtime.infer_on_device({source.name: given}, stream=stream, outputs={target.name: into})
            gpu.copy(answer.ctypes.data, into.address, answer.nbytes, stream)
            gpu.synchronize(stream)
            error = float(np.abs(answer - truth).max())
            assert error <= 1e-3 * float(np.abs(truth).max()), error
        return "device arrays in and out give what host arrays give"


def refusals(path: Path) -> str:
    with tempfile.TemporaryDirectory() as folder, TensorRtRuntime(path) as runtime:
        high = max(profile.max for profile in runtime.profiles)
        too_many = {runtime.describe().inputs[0].name: images(runtime, high + 1)}
        alone, damaged = Path(folder) / "alone.engine", Path(folder) / "damaged.engine"
        shutil.copy(path, alone)
        damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        shutil.copy(manifest_path(path), manifest_path(damaged))
        cases: list[tuple[type[VitrifyError], Callable[[], object]]] = [
            (RuntimeFailureError, lambda: runtime.infer(too_many)),
            (EngineError, lambda: TensorRtRuntime(alone).open()),
            (EngineError, lambda: TensorRtRuntime(damaged).open()),
            (EngineError, lambda: TensorRtRuntime(damaged, TensorRtOptions(trusted=True)).open()),
            (DeviceError, lambda: cuda().allocate(1 << 50)),
        ]
        for kind, call in cases:
            try:
                call()
            except kind as error:
                print("   ", str(error).replace("\n", "\n    "))
            else:
                raise AssertionError(f"no {kind.__name__}")
        TensorRtRuntime(alone, TensorRtOptions(trusted=True)).open().close()
        return f"{len(cases)} of {len(cases)}, and a trusted plan without a manifest runs"


def mixed_pictures(count: int) -> list[np.ndarray | bytes]:
    """Noise as arrays and as files, of many sizes and every orientation."""
    random = np.random.default_rng(7)
    pictures: list[np.ndarray | bytes] = []
    for number in range(count):
        height, width = (int(side) for side in random.integers(1, 400 if number % 7 else 1500, 2))
        rgb = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if number % 3 == 0:
            pictures.append(rgb)
            continue
        file, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = 1 + number % 8
        Image.fromarray(rgb).save(file, "PNG" if number % 3 == 1 else "JPEG", exif=exif)
        pictures.append(file.getvalue())
    return pictures


def gpu_pixels_equal_cpu_pixels(path: Path) -> str:
    """The engine's input, in both of its types, beside the CPU core's tensor: equal to the last bit."""
    gpu, largest = cuda(), 8
    spec = read_manifest(path).spec.preprocess
    cubin = preprocessing_cubin(gpu.gpu().compute_capability)
    pictures, decoders = mixed_pictures(96), Decoders(4)
    shape = (3, spec.crop_height, spec.crop_width)
    for dtype in ("float32", "float16"):
        source = Tensor(name="image", dtype=dtype, shape=shape, is_input=True)
        target = Tensor(name="same", dtype=dtype, shape=shape, is_input=False)
        stages = ImageStages(gpu, launcher(), cubin, source=source, target=target, largest=largest, spec=spec)

        def passed_on(given: DeviceArray, stream: int, into: DeviceArray, size: int = source.size(largest)) -> None:
            gpu.copy(into.address, given.address, size, stream)

        for start in range(0, len(pictures), largest):
            part = pictures[start : start + largest]
            with stages.lend() as stage:
                assert not any(stage.decode(decoders.open(part, spec), decoders))  # type: ignore[arg-type]
                made = stage.infer(largest, passed_on)
            wanted = preprocess(part, spec).astype(dtype)
            assert made.tobytes() == wanted.tobytes(), f"{dtype}, {np.flatnonzero((made != wanted).any((1, 2, 3)))}"
        stages.close()
    return f"{len(pictures)} images of mixed sizes and orientations, float32 and float16"


def gpu_pixels_give_the_cpus_answers(path: Path) -> str:
    pictures: list[np.ndarray | bytes] = [*mixed_pictures(40), b"no image"]
    with Classifier(path, batch_size=8, pixels="gpu") as one, Classifier(path, batch_size=8, pixels="cpu") as other:
        assert one.pixels_on_gpu
        assert not other.pixels_on_gpu
        worst = 0.0
        for _ in range(3):
            for ours, theirs in zip(one.stream(pictures), other.stream(pictures), strict=True):
                assert isinstance(ours, Failure) == isinstance(theirs, Failure), (ours, theirs)
                if not isinstance(ours, Failure) and not isinstance(theirs, Failure):
                    difference = np.abs(ours.logits - theirs.logits).max() / np.abs(theirs.logits).max()
                    worst = max(worst, float(difference))
        assert worst <= 1e-3, worst  # the same tensors; another batch may take other kernels
    return f"3 times {len(pictures)} images, one unreadable: largest relative difference {worst:.2g}"


CHECKS = (
    golden_vectors,
    graphs_change_nothing,
    threads_share,
    allocates_nothing_when_warm,
    stays_on_the_device,
    gpu_pixels_equal_cpu_pixels,
    gpu_pixels_give_the_cpus_answers,
    refusals,
)


def main() -> int:
    path, failed = Path(sys.argv[1]), 0
    for check in CHECKS:
        try:
            print(f"ok   {check.__name__}: {check(path)}", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {check.__name__}\n{traceback.format_exc()}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
