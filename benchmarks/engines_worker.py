"""The TensorRT side of `benchmarks/engines.py`, in its own process: TensorRT 8.5 needs another Python than PyTorch.

Reads a JSON command a line on standard input and answers each with a JSON line:

    {"do": "open", "engines": ["a.engine", …]}              -> {"device": …, "tensorrt": …, "engines": […]}
    {"do": "inputs", "path": "x.npy"}                       -> {}
    {"do": "logits", "way": …, "precision": …, "batch": n}  -> {"logits": [[…], …]}
    {"do": "time", "way": …, "precision": …, "batch": n, "calls": k}  -> {"ms": […]}

A way is `runner` or `bare`, then `graph` or `plain`, then `device` or `copies`. `bare` is the loop that the runner is
held to: one context, addresses set once, `execute_async_v3` or one graph launch, and a wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from worker_process import serve

from vitrify.artifacts import read_manifest
from vitrify.cuda import DeviceArray, cuda
from vitrify.runtimes.tensorrt import TensorRtOptions, TensorRtRuntime


class Bench:
    """Engines, and the batches that they are timed with."""

    def __init__(self) -> None:
        self.runtimes: dict[tuple[str, bool], TensorRtRuntime] = {}
        self.calls: dict[tuple[str, str, int], Callable[[], Any]] = {}
        self.images = np.zeros((0,), np.float32)
        self.device_images = 0
        self.kept: list[Any] = []

    def open(self, engines: list[str]) -> dict[str, Any]:
        """Opens engines, each with and without CUDA graphs."""
        shown = []
        for path in engines:
            manifest = read_manifest(path)
            for graphs in (True, False):
                self.runtimes[path, graphs] = TensorRtRuntime(path, TensorRtOptions(cuda_graphs=graphs)).open()
            shown.append(
                {
                    "engine": Path(path).name,
                    "precision": manifest.precision,
                    "hold_norms": manifest.config.hold_norms,
                    "profiles": [str(profile) for profile in manifest.config.profiles],
                    "plan_mb": round(manifest.plan_bytes / 1e6, 1),
                    "build_s": manifest.build_seconds,
                    "pinned": len(manifest.pinned),
                    "fused_attention": f"{manifest.audit.fused_attention} of {manifest.audit.attention_blocks}",
                    "matrix_types": manifest.audit.matrix_types,
                    "opaque_layers": manifest.audit.opaque,
                }
            )
        gpu, runtime = cuda().gpu(), next(iter(self.runtimes.values()))
        return {"device": gpu.name, "driver's CUDA": gpu.driver, "engines": shown, **runtime.versions()}

    def inputs(self, path: str) -> dict[str, Any]:
        """Loads the images, and puts them on the GPU."""
        self.images = np.load(path)
        gpu = cuda()
        self.device_images = gpu.allocate(self.images.nbytes)
        stream = gpu.create_stream()
        gpu.copy(self.device_images, self.images.ctypes.data, self.images.nbytes, stream)
        gpu.synchronize(stream)
        gpu.destroy_stream(stream)
        return {}

    def time(self, way: str, precision: str, batch: int, calls: int) -> dict[str, Any]:
        """Milliseconds of each call."""
        call = self._call(way, precision, batch)
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
        return {"ms": times}

    def logits(self, way: str, precision: str, batch: int) -> dict[str, Any]:
        """What a way answers, once it is warm."""
        for _ in range(3):  # the third call of a graph is a replay of what the second recorded
            found = self._call(way, precision, batch)()
        if isinstance(found, DeviceArray):
            host = np.empty(found.shape, found.dtype)
            gpu = cuda()
            stream = gpu.create_stream()
            gpu.copy(host.ctypes.data, found.address, host.nbytes, stream)
            gpu.synchronize(stream)
            gpu.destroy_stream(stream)
            found = host
        return {"logits": np.asarray(found, np.float64).tolist()}

    def _call(self, way: str, precision: str, batch: int) -> Callable[[], Any]:
        key = (way, precision, batch)
        if key not in self.calls:
            who, how, where = way.split()
            runtime = self._runtime(precision, batch, graphs=how == "graph")
            make = {("runner", "device"): self._runner_device, ("runner", "copies"): self._runner_copies}
            self.calls[key] = make.get((who, where), self._bare)(runtime, batch, how == "graph")
            for _ in range(5):
                self.calls[key]()
        return self.calls[key]

    def _runtime(self, precision: str, batch: int, *, graphs: bool) -> TensorRtRuntime:
        fitting = [
            runtime
            for (_, has_graphs), runtime in self.runtimes.items()
            if has_graphs == graphs
            and runtime.manifest is not None
            and runtime.manifest.precision == precision
            and any(batch in profile for profile in runtime.profiles)
        ]
        if not fitting:
            raise ValueError(f"no engine in {precision} for a batch of {batch}")
        return min(fitting, key=lambda r: min(abs(p.opt - batch) for p in r.profiles if batch in p))

    def _device_batch(self, batch: int) -> DeviceArray:
        shape = (batch, *self.images.shape[1:])
        return DeviceArray(address=self.device_images, shape=shape, dtype="float32")

    def _runner_copies(self, runtime: TensorRtRuntime, batch: int, graph: bool) -> Callable[[], Any]:
        signature, images = runtime.describe(), self.images[:batch]
        return lambda: runtime.infer({signature.inputs[0].name: images})[signature.outputs[0].name]

    def _runner_device(self, runtime: TensorRtRuntime, batch: int, graph: bool) -> Callable[[], Any]:
        signature, gpu = runtime.describe(), cuda()
        stream, given = gpu.create_stream(), {signature.inputs[0].name: self._device_batch(batch)}
        out = runtime.describe().outputs[0]
        into = DeviceArray(
            address=gpu.allocate(4 * batch * int(out.shape[1] or 0)),
            shape=(batch, int(out.shape[1] or 0)),
            dtype=out.dtype,
        )

        def call() -> DeviceArray:
            runtime.infer_on_device(given, stream=stream, outputs={out.name: into})
            gpu.synchronize(stream)
            return into

        return call

    def _bare(self, runtime: TensorRtRuntime, batch: int, graph: bool) -> Callable[[], Any]:
        # An engine of its own: 8.5 gives a profile to one context.
        gpu, engine = cuda(), runtime._load_engine()
        stream, size = gpu.create_stream(), engine.scratch_bytes
        context = engine.new_context(gpu.allocate(size), size)
        self.kept += [engine, context]  # a graph's launch needs both, and refers to neither
        index = runtime._profile_for(batch)
        context.set_optimization_profile_async(index, stream)
        gpu.synchronize(stream)
        out = runtime.describe().outputs[0]
        into = DeviceArray(
            address=gpu.allocate(4 * batch * int(out.shape[1] or 0)),
            shape=(batch, int(out.shape[1] or 0)),
            dtype=out.dtype,
        )
        name = runtime.describe().inputs[0].name
        context.set_input_shape(name, (batch, *self.images.shape[1:]))
        context.set_tensor_address(name, self.device_images)
        context.set_tensor_address(out.name, into.address)

        def plain() -> DeviceArray:
            context.execute_async_v3(stream)
            gpu.synchronize(stream)
            return into

        if not graph:
            return plain
        plain()
        with gpu.capture(stream) as recorded:
            context.execute_async_v3(stream)

        def replay() -> DeviceArray:
            gpu.launch(recorded[0], stream)
            gpu.synchronize(stream)
            return into

        return replay


if __name__ == "__main__":
    serve(Bench())
