"""An NVIDIA GPU: its driver, arrays in its memory, and images that it prepares.

NVIDIA's bindings are imported on use: this package itself needs numpy alone.
"""

from vitrify.cuda.arrays import DeviceArray, Tensor
from vitrify.cuda.driver import Cuda, cuda, gpu_or_none, require_gpu

__all__ = ["Cuda", "DeviceArray", "Tensor", "cuda", "gpu_or_none", "require_gpu"]
