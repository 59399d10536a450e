from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

Randomise = Callable[[nn.Module], nn.Module]
Images = Callable[..., torch.Tensor]


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


@pytest.fixture
def randomise() -> Randomise:
    """Gives every tensor numbers of its own: a zero head, a unit norm or a tiny layer scale would hide a mistake."""

    def fill(model: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale_like = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if scale_like else 0.2 * noise if parameter.ndim < 2 else 0.15 * noise)
        return model.eval()

    return fill


@pytest.fixture
def images() -> Images:
    def make(height: int, width: int | None = None) -> torch.Tensor:
        return torch.randn(2, 3, height, width or height, generator=torch.Generator().manual_seed(2))

    return make
