"""TensorRT and TensorRT-RTX on an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrify.artifacts import PRODUCTS, Artifact, Manifest, Profile, manifest_path, remedy_for
from vitrify.cuda import DeviceArray, cuda
from vitrify.cuda.images import GpuImages
from vitrify.errors import DeviceError, ImageError, RuntimeFailureError
from vitrify.pixels import Decoders
from vitrify.pixels.batches import StoredImage
from vitrify.runtimes.base import Array, Runtime, RuntimeOptions, Signature, TensorInfo
from vitrify.runtimes.devices import PixelsOn
from vitrify.spec import ModelSpec
from vitrify.tensorrt import load_tensorrt, require_fit
from vitrify.tensorrt.loading import KernelCache, LoadedEngine, PlanFile, load_engine
from vitrify.tensorrt.session import Session, SessionPool


@dataclass(frozen=True, kw_only=True)
class TensorRtOptions(RuntimeOptions):
    """How TensorRT runs an engine on the first visible GPU.

    Attributes:
        trusted: Run a plan that has no manifest. A plan can carry code: only what you made yourself. Where there is a
            manifest, the plan is held to it all the same.
        pixels: Where images are resized, cropped and normalised, to the same tensors: `cpu`, `gpu`, or `auto`: the GPU
            where that can be.
        cuda_graphs: Whether repeated batch sizes run as recorded graphs, which small batches are faster with.
        kernel_cache: Folder of the kernels that TensorRT-RTX compiles while it runs, a file for each version and GPU;
            `auto` is vitrify's cache folder, `none` keeps nothing.
    """

    trusted: bool = False
    pixels: PixelsOn = "auto"
    cuda_graphs: bool = True
    kernel_cache: str = "auto"


class TensorRtRuntime(Runtime):
    """Runs an engine on the GPU, one context and stream a concurrent call.

    The engine's arithmetic was decided when it was built; `precision` stays fp32, which is: as built. Batch sizes have
    to lie inside a profile of the engine.
    """

    name = "tensorrt"
    precisions = ("fp32",)
    options_type = TensorRtOptions
    options: TensorRtOptions

    def _open(self) -> None:
        artifact = self.artifact
        alone = self.options.trusted and not manifest_path(self.path).exists()
        self.manifest: Manifest | None = None if alone else artifact.manifest
        self._plan = PlanFile(self.path, self.manifest)
        self._trt = load_tensorrt(self.manifest.flavour if self.manifest else "auto")
        self._cuda = cuda()
        gpu = self._cuda.gpu()
        if self.manifest is not None:
            require_fit(self.path, self.manifest, self._trt, gpu)
        kept = self._trt.cache_file(self.options.kernel_cache, gpu, "kernels")
        self._kernels = KernelCache(kept) if kept is not None and self._trt.release.runtime_cache else None
        self._pool = SessionPool(self._cuda, self._load_engine, graphs=self.options.cuda_graphs)
        self._by_batch: dict[int, int] = {}  # the profile of each batch size that was asked for
        self._one_at_a_time = threading.Lock()
        self._images = GpuImages(self._cuda, self.options.pixels)

    @classmethod
    def load_libraries(cls, path: Path) -> None:
        """TensorRT, in the flavour that the manifest names, and CUDA."""
        load_tensorrt(Artifact.open(path).manifest.flavour if manifest_path(path).is_file() else "auto")
        cuda()

    @classmethod
    def device_bytes(cls) -> int:
        """Of the GPU's memory, by all processes; this process's CUDA context is made first where there was none."""
        return cuda().bytes_in_use()

    def _load_engine(self) -> LoadedEngine:
        return load_engine(
            self._trt,
            self._plan.read(),
            self.path,
            host_code=self.manifest is None or self.manifest.config.version_compatible,
            hint=remedy_for(self.path) if self.manifest else "build it again on this machine",
            kernels=self._kernels,
        )

    def _close(self) -> None:
        # Where opening failed half-way, what came first is there and the rest is not.
        try:
            if images := getattr(self, "_images", None):
                with contextlib.suppress(DeviceError):  # a GPU that failed answers this too with its failure
                    images.close()
            self._pool.close()
            if self._kernels is not None:
                self._kernels.save()
        finally:
            self._plan.close()

    def _describe(self) -> Signature:
        infos = {
            kind: tuple(
                TensorInfo(name=tensor.name, dtype=tensor.dtype, shape=(None, *tensor.shape))
                for tensor in self._pool.tensors
                if tensor.is_input == kind
            )
            for kind in (True, False)
        }
        batches = tuple((profile.min, profile.max) for profile in self._pool.profiles)
        return Signature(inputs=infos[True], outputs=infos[False], batches=batches)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Batch sizes that the open engine accepts."""
        return self._pool.profiles

    def _infer(self, batch: dict[str, Array]) -> dict[str, Array]:
        with self.session(len(next(iter(batch.values())))) as session:
            return session.run(batch)

    def infer_on_device(
        self, batch: Mapping[str, Any], *, stream: int = 0, outputs: Mapping[str, Any] | None = None
    ) -> dict[str, DeviceArray]:
        """Runs a batch that is on the GPU already, without copying, and without waiting once its graph is recorded.

        Args:
            batch: An array for each input, with `__cuda_array_interface__` or `__dlpack__`, C-contiguous, of the dtype
                and shape that `describe` tells, in this GPU's own or managed memory. It has to live until the stream
                has passed. Page-locked host memory is refused: kernels would read it over the bus.
            stream: The caller's CUDA stream: the work is ordered into it, before what it is given next.
            outputs: Arrays to write to. Without them the result lies in the runtime's own memory, and the next batch
                may overwrite it; the memory stays as long as the array does, also after `close`.

        Returns:
            An array on the GPU for each output, which PyTorch, CuPy and JAX read in place: on `stream`, or on another
            one that was made to wait for it.

        Raises:
            RuntimeFailureError: A wrong name, dtype or shape, memory of the host or of another GPU, an output that may
                not be written, or TensorRT failed.
        """
        given = {name: DeviceArray.of(array) for name, array in batch.items()}
        into = {name: DeviceArray.of(array) for name, array in (outputs or {}).items()}
        signature = self.describe()
        inputs, outputs_of = ({info.name: info for info in infos} for infos in (signature.inputs, signature.outputs))
        if given.keys() != inputs.keys() or not into.keys() <= outputs_of.keys():
            raise RuntimeFailureError(
                "the batch does not have the model's tensors",
                got=", ".join([*given, *into]) or "no arrays",
                expected=", ".join([*inputs, *outputs_of]),
            )
        count = next(iter(given.values())).shape[:1]  # nothing for an array without axes
        for arrays, infos in ((given, inputs), (into, outputs_of)):
            for name, array in arrays.items():
                info = infos[name]
                self._require_here(name, array)
                if array.dtype != info.dtype or array.shape != (*count, *(info.shape or ())[1:]) or 0 in array.shape:
                    raise RuntimeFailureError(
                        f"an array does not fit the model's {name}",
                        got=f"{array.dtype} {list(array.shape)}",
                        expected=str(info),
                    )
        for name, array in into.items():
            if array.readonly:
                raise RuntimeFailureError(f"the array for {name} is read-only", hint="give one that may be written")
        with self.session(*count) as session:
            return session.run_on_device(given, stream=stream, outputs=into)

    def prepares_images(self) -> bool:
        """Whether images are resized, cropped and normalised on the GPU, into what the engine reads."""
        return self._images.available

    def infer_images(
        self, images: Sequence[StoredImage], spec: ModelSpec, decoders: Decoders
    ) -> tuple[Array, list[ImageError | None]]:
        """Decodes images on the CPU, prepares them on the GPU where the engine reads, and infers; see `PreparesImages`.

        Threads that call at once decode, copy and prepare side by side, each in memory of its own; their inferences
        follow each other on one worker.
        """
        with self._cuda.current():
            stages = self._images.stages(self._pool.tensors, max(profile.max for profile in self.profiles), spec)
        count = self.describe().fitting_batch(len(images))

        def infer(source: DeviceArray, stream: int, target: DeviceArray) -> None:
            with self._one_at_a_time:  # giving the work to the GPU, which orders it
                self.infer_on_device({spec.input.name: source}, stream=stream, outputs={spec.output.name: target})

        with self._cuda.current(), stages.lend() as stage:
            failures = stage.decode(images, decoders)
            return stage.infer(count, infer), failures

    def _require_here(self, name: str, array: DeviceArray) -> None:
        if array.device_type not in self._cuda.memory_kinds or array.device_index != 0:
            raise RuntimeFailureError(
                f"the array for {name} is not in this GPU's memory",
                got=f"DLPack device type {array.device_type}, index {array.device_index}",
                expected="type 2 (CUDA) or 13 (CUDA managed), index 0: the first visible GPU",
                hint='move it there first, such as tensor.to("cuda:0"); infer() takes arrays of the host',
            )

    @contextlib.contextmanager
    def session(self, batch: int) -> Iterator[Session]:
        """Lends a worker for a batch size; makes one where all are busy.

        Raises:
            RuntimeFailureError: No profile has this batch size.
            DeviceError: Not enough GPU memory for another worker.
        """
        index = self._by_batch.get(batch)
        if index is None:
            index = self._by_batch[batch] = self._profile_for(batch)
        with self._pool.lend(index) as session:
            yield session

    def _profile_for(self, batch: int) -> int:
        fitting = [index for index, profile in enumerate(self._pool.profiles) if batch in profile]
        if not fitting:
            shown = ", ".join(f"{profile.min} to {profile.max}" for profile in self._pool.profiles)
            low, high = min(p.min for p in self._pool.profiles), max(batch, *(p.max for p in self._pool.profiles))
            raise RuntimeFailureError(
                f"the engine has no profile for a batch of {batch}",
                got=batch,
                expected=shown,
                hint=f"split the batch, or build with --profile {min(low, batch)}:{batch}:{high}",
            )
        # The one that was tuned closest to this batch.
        return min(fitting, key=lambda index: abs(self._pool.profiles[index].opt - batch))

    @property
    def spec(self) -> ModelSpec:
        """The manifest's, as it was when the engine was opened."""
        return self.manifest.spec if self.manifest is not None else super().spec

    @property
    def hardware(self) -> str:
        """The GPU's name."""
        return self._cuda.gpu().name

    def versions(self) -> dict[str, str]:
        """The version of TensorRT or TensorRT-RTX, whichever runs the open engine."""
        return {PRODUCTS[self._trt.release.flavour].lower(): self._trt.version}
