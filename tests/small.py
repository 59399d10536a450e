"""The spec of a small ViT, as the models of the tests have it."""

from __future__ import annotations

from typing import Any, Literal

from vitrify.spec import InputSpec, ModelSpec, Preprocess, Source

ARCHITECTURE = "vit_base_patch16_224"


def small_spec(
    labels: tuple[str, ...],
    model_kwargs: dict[str, Any],
    *,
    resize_rule: Literal["squash", "shortest"] = "squash",
    resize: int | None = None,
) -> ModelSpec:
    """Square images of `model_kwargs["img_size"]` pixels, cut out of `resize`, which is the same by default."""
    size = model_kwargs["img_size"]
    return ModelSpec(
        input=InputSpec(height=size, width=size),
        preprocess=Preprocess(
            resize_rule=resize_rule,
            resize_height=resize or size,
            resize_width=resize or size,
            crop_height=size,
            crop_width=size,
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        labels=labels,
        source=Source(architecture=ARCHITECTURE, model_kwargs=dict(model_kwargs), created_by="test"),
    )
