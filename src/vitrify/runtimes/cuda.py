"""The C++ cuda engine: a Vision Transformer on an NVIDIA GPU without TensorRT and without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitrify._cuda import CudaEngine
from vitrify.errors import OptionError
from vitrify.runtimes.base import Array, Runtime, RuntimeOptions, Signature, TensorInfo
from vitrify.spec import Precision


@dataclass(frozen=True, kw_only=True)
class CudaOptions(RuntimeOptions):
    """How the cuda engine runs a model.

    Attributes:
        precision: fp16, or fp8 where the scales lie beside the artifact; it has no fp32.
        device: The GPU: `cuda`, which is the first, or `cuda:1` and so on.
        streams: Batches that run at once, each with its own memory on the GPU; further threads wait.
    """

    precision: Precision = "fp16"
    device: str = "cuda"
    streams: int = 1


class CudaRuntime(Runtime):
    """Runs the network that it finds in an ONNX file with its own kernels and cuBLASLt.

    What it finds no network in it refuses, and so it has to be named: `auto` never picks it. The first batch of a size
    is tuned, once for this GPU; the choice is kept in vitrify's cache folder.
    """

    name = "cuda"
    precisions = ("fp16", "fp8")
    options_type = CudaOptions
    options: CudaOptions

    def _open(self) -> None:
        kind, _, index = self.options.device.partition(":")
        if kind != "cuda" or not (index or "0").isdecimal() or self.options.device.endswith(":"):
            raise OptionError("no such device of the cuda runtime", got=self.options.device, expected="cuda, cuda:1")
        if self.options.streams < 1:
            raise OptionError("streams cannot be used", got=self.options.streams, expected="1 or more")
        self._spec = self.artifact.spec
        fp8 = self.options.precision == "fp8"
        self._engine = CudaEngine(str(self.path), fp8=fp8, device=int(index or 0), streams=self.options.streams)

    def _close(self) -> None:
        del self._engine  # a thread that is still in it keeps it alive until its batch is done

    def _describe(self) -> Signature:
        given, crop = self._spec.input, self._spec.preprocess
        return Signature(
            inputs=(
                TensorInfo(name=given.name, dtype=given.dtype, shape=(None, 3, crop.crop_height, crop.crop_width)),
            ),
            outputs=(TensorInfo(name=self._spec.output.name, dtype="float32", shape=(None, len(self._spec.labels))),),
        )

    def _infer(self, batch: dict[str, Array]) -> dict[str, Array]:
        (tensors,) = batch.values()
        return {self._spec.output.name: self._engine.infer(tensors.astype(np.float32, copy=False))}

    @property
    def hardware(self) -> str:
        """The GPU's name, and its driver's version of CUDA."""
        return self._engine.device

    def versions(self) -> dict[str, str]:
        """The version of cuBLASLt that was opened."""
        name, _, version = self._engine.version.partition(" ")
        return {name: version}
