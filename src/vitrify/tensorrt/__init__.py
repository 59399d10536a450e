"""ONNX to TensorRT engines: building, auditing, loading and running.

NVIDIA's bindings are imported on use: this package itself needs numpy alone.
"""

from vitrify.tensorrt.building import BuiltPlan, build_plan
from vitrify.tensorrt.loading import require_fit
from vitrify.tensorrt.releases import Release, TensorRt, load_tensorrt

__all__ = ["BuiltPlan", "Release", "TensorRt", "build_plan", "load_tensorrt", "require_fit"]
