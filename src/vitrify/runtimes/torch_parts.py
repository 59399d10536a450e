"""PyTorch, giving out what leaves each part of the model as well."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vitrify.graphs import EMBEDDING, is_block, part_of
from vitrify.runtimes.base import Array, Signature, TensorInfo
from vitrify.runtimes.torch import TorchRuntime


class TorchPartsRuntime(TorchRuntime):
    """Runs a checkpoint with a hook on each module that is a part, named as in an exported graph.

    Parts are the transformer blocks, what enters the first of them (`embedding`), and the top modules that hold weights
    and no blocks. A module that a forward pass leaves out, or that runs more than once, is not among the outputs.
    """

    def _describe(self) -> Signature:
        self._modules = _parts(self._model)
        signature = super()._describe()
        names = list(self._modules)
        first = next((number for number, name in enumerate(names) if is_block(name)), None)
        if first is not None:
            names.insert(first, EMBEDDING)
        further = tuple(TensorInfo(name=name, dtype="float32", shape=None) for name in names)
        return Signature(inputs=signature.inputs, outputs=(*signature.outputs, *further))

    def _infer(self, batch: dict[str, Array]) -> dict[str, Array]:
        seen: dict[str, list[torch.Tensor]] = {}
        handles = [module.register_forward_hook(_leaving(name, seen)) for name, module in self._modules.items()]
        first = next((module for name, module in self._modules.items() if is_block(name)), None)
        if first is not None:
            handles.append(first.register_forward_pre_hook(_entering(seen)))
        try:
            outputs = super()._infer(batch)
        finally:
            for handle in handles:
                handle.remove()
        single = {name: tensors[0] for name, tensors in seen.items() if len(tensors) == 1}
        return outputs | {name: tensor.float().cpu().numpy() for name, tensor in single.items()}


def _parts(model: nn.Module) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        block = is_block(name) and part_of(f"{name}/") == name
        if block or (name and "." not in name and _has_weights_alone(name, module)):
            found[name] = module
    return found


def _has_weights_alone(name: str, module: nn.Module) -> bool:
    holds_blocks = any(is_block(f"{name}.{inner}") for inner, _ in module.named_modules())
    return not holds_blocks and any(True for _ in module.parameters())


def _leaving(name: str, seen: dict[str, list[torch.Tensor]]) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, torch.Tensor):
            seen.setdefault(name, []).append(output.detach().clone())

    return hook


def _entering(seen: dict[str, list[torch.Tensor]]) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], torch.Tensor):
            seen.setdefault(EMBEDDING, []).append(inputs[0].detach().clone())

    return hook
