"""ONNX Runtime on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import onnxruntime

from vitrify.errors import RuntimeFailureError
from vitrify.machine import quota_threads
from vitrify.runtimes.base import Array, Runtime, RuntimeOptions, Signature, TensorInfo
from vitrify.runtimes.eight_bits import require_exact_products

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
}


@dataclass(frozen=True, kw_only=True)
class OnnxRuntimeOptions(RuntimeOptions):
    """How ONNX Runtime runs a model.

    Attributes:
        threads: Threads inside one inference; by default a core each.
        dequantize: Whether an 8-bit file multiplies its rounded numbers in fp32: right on every processor, and slower.
    """

    threads: int | None = None
    dequantize: bool = False


class OnnxRuntime(Runtime):
    """Runs an ONNX file with ONNX Runtime's CPU provider. Exact fp32; no bf16."""

    name = "onnxruntime"
    precisions = ("fp32",)
    options_type = OnnxRuntimeOptions
    options: OnnxRuntimeOptions

    def _open(self) -> None:
        require_exact_products(self.artifact, dequantize=self.options.dequantize)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Its threads would spin on for 20 ms after each batch, on the cores that prepare the next image.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if self.options.dequantize:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if threads := self.options.threads or quota_threads():
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                self.artifact.content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base but Exception
            raise RuntimeFailureError(
                f"ONNX Runtime refuses {self.path}", got=_first_line(error), hint="export the artifact again"
            ) from error
        finally:
            self.artifact.release()

    def _close(self) -> None:
        del self._session

    def _describe(self) -> Signature:
        def read(args: list[onnxruntime.NodeArg]) -> tuple[TensorInfo, ...]:
            return tuple(
                TensorInfo(
                    name=arg.name,
                    dtype=_DTYPES.get(arg.type, arg.type),
                    shape=tuple(n if isinstance(n, int) else None for n in arg.shape),
                )
                for arg in args
            )

        return Signature(inputs=read(self._session.get_inputs()), outputs=read(self._session.get_outputs()))

    def _infer(self, batch: dict[str, Array]) -> dict[str, Array]:
        names = [info.name for info in self.describe().outputs]
        try:
            return dict(zip(names, self._session.run(names, batch), strict=True))
        except Exception as error:
            raise RuntimeFailureError("ONNX Runtime failed on a batch", got=_first_line(error)) from error

    def versions(self) -> dict[str, str]:
        """The version of onnxruntime."""
        return {"onnxruntime": onnxruntime.__version__}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
