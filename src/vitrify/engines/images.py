"""Whether and how an open engine takes images."""

from __future__ import annotations

import functools
import threading
from typing import Literal

from vitrify.engines.gpu import Cuda
from vitrify.engines.launching import Launcher, launcher
from vitrify.engines.nvrtc import preprocessing_cubin
from vitrify.engines.staging import ImageStages
from vitrify.engines.tensors import Tensor
from vitrify.errors import DeviceError, MissingExtraError, RuntimeFailureError
from vitrify.spec import ModelSpec, Preprocess


class GpuImages:
    """The preprocessing kernel of an engine's GPU, and the stages of the specs that were asked for.

    Args:
        cuda: The GPU.
        pixels: `gpu` makes it an error that the kernel cannot be had, `auto` does not, `cpu` looks for none.

    Raises:
        MissingExtraError, DeviceError: With `gpu`, why not.
    """

    def __init__(self, cuda: Cuda, pixels: Literal["auto", "cpu", "gpu"]) -> None:
        self._cuda = cuda
        self._lock = threading.Lock()
        self._stages: dict[Preprocess, ImageStages] = {}
        self._pixels = pixels
        if pixels == "gpu":
            assert self._kernel is not None  # else it says why not

    @functools.cached_property
    def _kernel(self) -> tuple[Launcher, bytes] | None:
        # Not before somebody asks: an engine that is opened for tensors has no use for it.
        if self._pixels == "cpu":
            return None
        try:
            return launcher(), preprocessing_cubin(self._cuda.gpu().compute_capability)
        except (MissingExtraError, DeviceError):
            if self._pixels == "gpu":
                raise
            return None

    @property
    def available(self) -> bool:
        """Whether images can be prepared on the GPU."""
        return self._kernel is not None

    def stages(self, tensors: tuple[Tensor, ...], largest: int, spec: ModelSpec) -> ImageStages:
        """The stages for a spec, made when they are asked for first.

        Args:
            tensors: Of the engine.
            largest: Images in its largest batch.
            spec: Names the input and the output, and says how images are prepared.

        Raises:
            RuntimeFailureError: There is no kernel, or the engine does not take what the spec's images become.
            DeviceError: The driver refuses the kernel.
        """
        if self._kernel is None:
            raise RuntimeFailureError("no kernel prepares images", hint="open the engine with pixels=gpu to learn why")
        with self._lock:
            if spec.preprocess not in self._stages:
                named = {tensor.name: tensor for tensor in tensors}
                self._stages[spec.preprocess] = ImageStages(
                    self._cuda,
                    *self._kernel,
                    source=named[spec.input.name],
                    target=named[spec.output.name],
                    largest=largest,
                    spec=spec.preprocess,
                )
            return self._stages[spec.preprocess]

    def close(self) -> None:
        """Gives all memory back."""
        while self._stages:
            self._stages.popitem()[1].close()
