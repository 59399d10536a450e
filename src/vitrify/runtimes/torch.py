"""PyTorch, running the checkpoint itself: the reference that every artifact is compared with."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vitrify.artifacts import Artifact
from vitrify.checkpoints import Overrides, load_checkpoint, spec_from_checkpoint
from vitrify.errors import InputError, OptionError, RuntimeFailureError
from vitrify.machine import quota_threads
from vitrify.runtimes.base import Array, Runtime, RuntimeOptions, Signature, TensorInfo
from vitrify.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class TorchOptions(RuntimeOptions):
    """How PyTorch runs a model.

    Attributes:
        threads: Of the whole process; by default what PyTorch chooses.
        device: PyTorch's name of a device, such as cpu or cuda.
        like: A spec of the same model; tells a foreign checkpoint's architecture, head count and labels where its
            tensors do not.
    """

    threads: int | None = None
    device: str = "cpu"
    like: ModelSpec | None = field(default=None, repr=False)


class TorchRuntime(Runtime):
    """Runs a checkpoint of any known dialect in eager mode."""

    name = "torch"
    precisions = ("fp32", "bf16", "fp16")
    options_type = TorchOptions
    options: TorchOptions

    def _open(self) -> None:
        try:
            self._device = torch.device(self.options.device)
        except RuntimeError as error:
            raise OptionError("no such PyTorch device", got=self.options.device, expected="cpu, cuda") from error
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise OptionError("PyTorch finds no GPU", got=self.options.device, hint="leave --device out")
        if threads := self.options.threads or quota_threads():
            torch.set_num_threads(threads)
        self._checkpoint = load_checkpoint(self.path, overrides=_overrides(self.path, self.options.like))
        self._model = self._checkpoint.model.to(self._device).eval()

    def _close(self) -> None:
        del self._model, self._checkpoint

    def _describe(self) -> Signature:
        spec = self._checkpoint.preprocess
        return Signature(
            inputs=(TensorInfo(name="image", dtype="float32", shape=(None, 3, spec.crop_height, spec.crop_width)),),
            outputs=(TensorInfo(name="logits", dtype="float32", shape=(None, self._checkpoint.num_classes)),),
        )

    def _infer(self, batch: dict[str, Array]) -> dict[str, Array]:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.options.precision)
        autocast = torch.autocast(self._device.type, dtype=dtype) if dtype else contextlib.nullcontext()
        try:
            with torch.inference_mode(), autocast:
                logits = self._model(torch.from_numpy(batch["image"]).to(self._device))
        except RuntimeError as error:
            raise RuntimeFailureError("PyTorch failed on a batch", got=str(error).partition("\n")[0]) from error
        return {"logits": logits.float().cpu().numpy()}

    @property
    def spec(self) -> ModelSpec:
        """The checkpoint's own spec, or one made from what its tensors tell."""
        like = self.options.like
        known = self._checkpoint.labels
        borrowed = like.labels if like and known is None and len(like.labels) == self._checkpoint.num_classes else None
        return spec_from_checkpoint(self._checkpoint, labels=borrowed)

    def versions(self) -> dict[str, str]:
        """The version of torch."""
        return {"torch": torch.__version__}


def _overrides(path: Path, like: ModelSpec | None) -> Overrides:
    if like is None or _has_spec(path):
        return Overrides()
    heads = like.source.model_kwargs.get("num_heads")
    return Overrides(architecture=like.source.architecture or None, num_heads=heads if isinstance(heads, int) else None)


def _has_spec(path: Path) -> bool:
    try:
        Artifact.open(path).spec  # noqa: B018
    except InputError:
        return False
    return True
