"""OpenVINO on the CPU."""

from __future__ import annotations

import functools
import os
import threading
from dataclasses import dataclass

import numpy as np
import openvino
from openvino.passes import ConstantFolding, Manager

from vitrify.errors import RuntimeFailureError
from vitrify.machine import quota_threads
from vitrify.runtimes.base import Array, Runtime, RuntimeOptions, Signature, TensorInfo
from vitrify.runtimes.eight_bits import require_exact_products


@functools.cache
def _core_of(process: int) -> openvino.Core:
    """One for each process, for good.

    Its CPU plugin gives the thread that makes it another stack for signals, and unmaps that stack when the last user is
    gone, on whatever thread that is: the next signal that Python handles would then end the process.
    """
    del process
    return openvino.Core()


def core() -> openvino.Core:
    """The process's OpenVINO."""
    return _core_of(os.getpid())


_HINTS = {"fp32": "f32", "bf16": "bf16"}


@dataclass(frozen=True, kw_only=True)
class OpenVinoOptions(RuntimeOptions):
    """How OpenVINO runs a model.

    Attributes:
        threads: Threads inside one inference; by default a core each.
        dequantize: Whether an 8-bit file multiplies its rounded numbers in fp32: right on every processor, and slower.
        device: OpenVINO's name of a device.
    """

    threads: int | None = None
    dequantize: bool = False
    device: str = "cpu"


class OpenVinoRuntime(Runtime):
    """Runs an ONNX file with OpenVINO.

    The precision is always stated: left alone, OpenVINO computes in bf16 wherever the processor has it.
    """

    name = "openvino"
    precisions = ("fp32", "bf16")
    options_type = OpenVinoOptions
    options: OpenVinoOptions

    def _open(self) -> None:
        config: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.options.precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads := self.options.threads or quota_threads():
            config["INFERENCE_NUM_THREADS"] = threads
        if self.options.dequantize:
            config["LP_TRANSFORMS_MODE"] = "NO"  # two rounded activations would be multiplied in 8 bits all the same
        require_exact_products(self.artifact, dequantize=self.options.dequantize)
        try:
            model = core().read_model(self.artifact.content)
            if self.options.dequantize:
                # Weights that are floats when the plugin sees them are multiplied as floats.
                folding = Manager()
                folding.register_pass(ConstantFolding())
                folding.run_passes(model)
            self._model = core().compile_model(model, self.options.device.upper(), config)
        except RuntimeError as error:
            raise RuntimeFailureError(
                f"OpenVINO refuses {self.path}", got=_last_line(error), hint="export the artifact again"
            ) from error
        finally:
            self.artifact.release()
        self._requests = threading.local()

    def _close(self) -> None:
        del self._model, self._requests

    def _describe(self) -> Signature:
        def read(ports: list[openvino.ConstOutput]) -> tuple[TensorInfo, ...]:
            return tuple(
                TensorInfo(
                    name=port.any_name,
                    dtype=np.dtype(port.element_type.to_dtype()).name,
                    shape=tuple(None if n.is_dynamic else n.get_length() for n in port.partial_shape),
                )
                for port in ports
            )

        return Signature(inputs=read(self._model.inputs), outputs=read(self._model.outputs))

    def _infer(self, batch: dict[str, Array]) -> dict[str, Array]:
        # A request holds one inference's buffers, so that each thread has its own.
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._model.create_infer_request()
        try:
            results = request.infer(batch, share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            raise RuntimeFailureError("OpenVINO failed on a batch", got=_last_line(error)) from error
        return {info.name: results[info.name] for info in self.describe().outputs}

    def versions(self) -> dict[str, str]:
        """The version of openvino, without its build number."""
        return {"openvino": openvino.__version__.partition("-")[0]}


def _last_line(error: RuntimeError) -> str:
    # OpenVINO stacks the C++ call sites first; the cause comes last.
    return str(error).strip().rpartition("\n")[2].strip()
