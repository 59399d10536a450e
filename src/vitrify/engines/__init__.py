"""ONNX to TensorRT engines: building, auditing, the manifest beside a plan, and running.

NVIDIA's bindings are imported on use: this package itself needs numpy alone.
"""

from vitrify.engines.audit import Audit, AuditedLayer
from vitrify.engines.building import BuiltPlan, build_plan
from vitrify.engines.config import BuildConfig, HardwareCompatibility, PrecisionChoice, Profile
from vitrify.engines.device import gpu_or_none, require_gpu
from vitrify.engines.gpu import Gpu
from vitrify.engines.manifest import Manifest, Race, manifest_path, read_manifest, require_fit, require_intact
from vitrify.engines.releases import FlavourChoice, Release, TensorRt, installed, load_tensorrt

__all__ = [
    "Audit",
    "AuditedLayer",
    "BuildConfig",
    "BuiltPlan",
    "FlavourChoice",
    "Gpu",
    "HardwareCompatibility",
    "Manifest",
    "Race",
    "PrecisionChoice",
    "Profile",
    "Release",
    "TensorRt",
    "build_plan",
    "gpu_or_none",
    "installed",
    "load_tensorrt",
    "manifest_path",
    "read_manifest",
    "require_fit",
    "require_gpu",
    "require_intact",
]
