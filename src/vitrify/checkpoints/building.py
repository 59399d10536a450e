"""timm's `create_model`, with three more words and with errors that a user can act on.

The additional keyword arguments, all JSON scalars, so that a `Source` can carry them:

    norm_eps             epsilon of every layer norm
    representation_size  a linear layer and tanh of this many outputs before the head (the original ImageNet-21k models)
    global_pool          also "token_avg": class token and mean of the patch tokens, one after the other (DINOv2)
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitrify.checkpoints.arguments import check_arguments
from vitrify.checkpoints.transformers import PreLogitsTransformer, TokenAvgTransformer
from vitrify.errors import CheckpointError, OptionError
from vitrify.spec import KwargValue


def build_model(
    architecture: str,
    *,
    num_classes: int,
    model_kwargs: Mapping[str, KwargValue] | None = None,
    pretrained: bool = False,
    **create_kwargs: Any,
) -> nn.Module:
    """Builds a Vision Transformer with random or pretrained weights.

    Args:
        architecture: timm's model name, with or without a pretrained tag.
        num_classes: Length of the output, 0 for a backbone without a head.
        model_kwargs: What a `Source` carries: timm's keyword arguments and those of this module.
        pretrained: Download timm's weights for this architecture.
        **create_kwargs: More keyword arguments of `timm.create_model`, such as `drop_path_rate`.

    Returns:
        The model in training mode, float32.

    Raises:
        OptionError: No such architecture, no Vision Transformer, or keyword arguments that may not be given or do not
            fit it.
        CheckpointError: The pretrained weights could not be had.
    """
    check_architecture(architecture)
    check_arguments(model_kwargs or {})
    kwargs: dict[str, Any] = {**(model_kwargs or {}), **create_kwargs}
    size = kwargs.pop("representation_size", None)
    token_avg = kwargs.get("global_pool") == "token_avg"
    if token_avg:
        kwargs["global_pool"] = ""
    if (eps := kwargs.pop("norm_eps", None)) is not None:
        kwargs["norm_layer"] = functools.partial(LayerNorm, eps=float(eps))
    if pretrained and (size or token_avg):
        raise OptionError(
            "pretrained weights do not fit this head",
            got="representation_size" if size else "global_pool=token_avg",
            hint="leave it away, or start from a file",
        )
    model = _create(architecture, num_classes, pretrained, kwargs)
    if not isinstance(model, VisionTransformer):
        raise OptionError(
            f"{architecture} is no plain Vision Transformer",
            got=f"timm builds a {type(model).__name__}",
            expected="an architecture of timm's VisionTransformer, such as vit_base_patch16_224",
        )
    if size:
        return PreLogitsTransformer.adopt(model, int(size))
    return TokenAvgTransformer.adopt(model) if token_avg else model


def build_without_memory(
    architecture: str, num_classes: int, model_kwargs: Mapping[str, KwargValue]
) -> VisionTransformer:
    """Builds on the meta device: every shape, no weights, a tenth of a second."""
    with torch.device("meta"):
        model = build_model(architecture, num_classes=num_classes, model_kwargs=model_kwargs)
    assert isinstance(model, VisionTransformer)
    return model


def check_architecture(architecture: str) -> None:
    """Raises an OptionError that lists close names when timm does not know `architecture`."""
    base = architecture.split(".", 1)[0]
    if timm.is_model(base):
        return
    close = difflib.get_close_matches(base, timm.list_models(), n=4, cutoff=0.5)
    raise OptionError(
        f"timm {timm.__version__} knows no architecture {architecture!r}",
        expected=f"close names are {', '.join(close)}" if close else "a name that timm.list_models() lists",
        hint="timm.list_models('vit_*') lists them all",
    )


def _create(architecture: str, num_classes: int, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(architecture, pretrained=pretrained, num_classes=num_classes, **kwargs)
    except (TypeError, ValueError, AssertionError, KeyError, AttributeError) as error:
        if pretrained and not isinstance(error, TypeError | AssertionError):
            raise _not_downloaded(architecture, error) from error
        raise OptionError(
            f"timm cannot build {architecture} with these arguments",
            got=f"{', '.join(f'{key}={value!r}' for key, value in kwargs.items()) or 'none'}: {error}",
            hint="check the names and values of the model's keyword arguments",
        ) from error
    except (OSError, RuntimeError) as error:
        # Hub and connection errors are OSErrors; timm has RuntimeError for a name without any weights.
        if pretrained:
            raise _not_downloaded(architecture, error) from error
        raise


def _not_downloaded(architecture: str, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()
    return CheckpointError(
        f"the pretrained weights of {architecture} could not be had",
        got=f"{type(error).__name__}: {reason[0] if reason else ''}",
        expected="a network connection, or the weights in the Hugging Face cache",
        hint="download the weights elsewhere and give the file: --init FILE",
    )
