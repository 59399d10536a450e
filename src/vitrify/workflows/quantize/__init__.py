"""`vitrify quantize`: a search for a lower precision, the judge of its candidates, and its report."""

from vitrify.workflows.quantize.limits import Limits
from vitrify.workflows.quantize.report import write_report
from vitrify.workflows.quantize.workflow import QuantizeConfig, QuantizeResult, labelled_images, quantized_from_onnx

__all__ = ["Limits", "QuantizeConfig", "QuantizeResult", "labelled_images", "quantized_from_onnx", "write_report"]
