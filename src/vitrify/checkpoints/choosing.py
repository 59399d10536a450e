"""Anatomy, hints and overrides become a timm architecture with as few keyword arguments as will do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import timm
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

from vitrify.checkpoints.building import build_without_memory, check_architecture
from vitrify.checkpoints.hints import Hints
from vitrify.checkpoints.model import Activation, Overrides
from vitrify.checkpoints.naming import name_of
from vitrify.checkpoints.sniffing import Anatomy, grid_of, sniff
from vitrify.errors import AmbiguousCheckpointError, OptionError
from vitrify.spec import KwargValue

_HEADS = {192: 3, 384: 6, 512: 8, 640: 10, 768: 12, 896: 14, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16}
"""Width to head count, as the published models of that width have it."""

_ACTIVATIONS: dict[str, Activation] = {
    "GELU": "gelu",
    "GELUTanh": "gelu_tanh",
    "QuickGELU": "quick_gelu",
    "ReLU": "relu",
    "SiLU": "silu",
}


@dataclass(kw_only=True)
class Choice:
    """How to build the model.

    Attributes:
        architecture: timm's model name.
        model_kwargs: Keyword arguments of `build_model`, only those that differ from the architecture's own.
        notes: What was decided and cannot be seen.
    """

    architecture: str
    model_kwargs: dict[str, KwargValue] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def choose(anatomy: Anatomy, hints: Hints, overrides: Overrides) -> Choice:
    """Finds the architecture that fits the anatomy.

    Raises:
        OptionError: An override that is unknown or contradicts the tensors.
        AmbiguousCheckpointError: Several models fit and none is the plain choice.
    """
    named = named_architecture(hints, overrides)
    if named is not None and overrides.architecture is None:
        try:
            return _choose(named, anatomy, hints, overrides, named=True)
        except OptionError:
            pass  # what a training script stored as its architecture may name anything, a teacher for one
    elif named is not None:
        return _choose(named, anatomy, hints, overrides, named=True)
    return _choose(name_of(anatomy), anatomy, hints, overrides, named=False)


def _choose(name: str, anatomy: Anatomy, hints: Hints, overrides: Overrides, *, named: bool) -> Choice:
    notes: list[str] = []
    model = build_without_memory(name, anatomy.num_classes, {})
    if isinstance(model, VisionTransformerDistilled) != anatomy.distilled:
        raise OptionError(
            f"{name} does not fit the tensors",
            got="a distillation token and its head" if anatomy.distilled else "no distillation token",
            expected="deit_*_distilled_*" if anatomy.distilled else "an architecture without one",
            hint="leave --arch away, and it is found out",
        )
    base = sniff({key: tuple(value.shape) for key, value in model.state_dict().items()})
    named_tower = named and base.others["pre_norm"]
    if anatomy.others["pre_norm"] and not named_tower and (overrides.activation or hints.activation) is None:
        raise AmbiguousCheckpointError(
            "the activation does not show, and models of this shape exist with two",
            got="a norm before the blocks, as CLIP's image tower has it",
            expected="gelu (OpenCLIP, and whatever timm fine-tuned) or quick_gelu (OpenAI, DFN, MetaCLIP)",
            hint="--activation gelu or --activation quick_gelu decides",
        )
    kwargs = _visible(anatomy, base)
    kwargs |= _pool(anatomy, base, model, named=named, hints=hints, overrides=overrides)
    kwargs |= _size(anatomy, model, hints, overrides)
    kwargs |= _invisible(anatomy, model, named=named, hints=hints, overrides=overrides, notes=notes)
    return Choice(architecture=name, model_kwargs=kwargs, notes=notes)


def named_architecture(hints: Hints, overrides: Overrides) -> str | None:
    """The architecture that the user names, else the one that the file names if timm knows it.

    Raises:
        OptionError: The user named one that timm does not know.
    """
    if overrides.architecture is not None:
        check_architecture(overrides.architecture)
        return overrides.architecture
    known = hints.architecture is not None and timm.is_model(hints.architecture.split(".", 1)[0])
    return hints.architecture if known else None


def _visible(anatomy: Anatomy, base: Anatomy) -> dict[str, KwargValue]:
    kwargs: dict[str, KwargValue] = {}
    if anatomy.patch_size != base.patch_size:
        kwargs["patch_size"] = _compact(anatomy.patch_size)
    if anatomy.embed_dim != base.embed_dim:
        kwargs["embed_dim"] = anatomy.embed_dim
    if anatomy.depth != base.depth:
        kwargs["depth"] = anatomy.depth
    if anatomy.mlp_width * base.embed_dim != base.mlp_width * anatomy.embed_dim:
        kwargs["mlp_ratio"] = _ratio(anatomy.mlp_width, anatomy.embed_dim)
    if anatomy.representation_size:
        kwargs["representation_size"] = anatomy.representation_size
    for key, value in anatomy.others.items():
        if value != base.others[key] and key not in ("global_pool", "fc_norm"):
            # Any value switches layer scale on; the weights come from the file.
            kwargs[key] = (1e-5 if value else None) if key == "init_values" else value
    return kwargs


def _ratio(hidden: int, width: int) -> float:
    # timm computes int(width * ratio): 4304 / 1152 must come back as 4304, not 4303.
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / width


def _size(anatomy: Anatomy, model: VisionTransformer, hints: Hints, overrides: Overrides) -> dict[str, KwargValue]:
    sizes = known_sizes(hints, overrides)
    default: tuple[int, int] = model.patch_embed.img_size
    if anatomy.tokens is None:
        size = sizes[-1] if sizes else default
    else:
        grid = grid_of(anatomy.tokens, anatomy.patch_size, sizes)
        if grid is None:
            raise AmbiguousCheckpointError(
                "the image size does not show: the position grid is not square",
                got=f"{anatomy.tokens} patches of {anatomy.patch_size[0]} x {anatomy.patch_size[1]} pixels",
                expected="one of " + ", ".join(_rectangles(anatomy.tokens, anatomy.patch_size)),
                hint="--img-size HEIGHT WIDTH decides",
            )
        size = grid[0] * anatomy.patch_size[0], grid[1] * anatomy.patch_size[1]
    return {} if size == default else {"img_size": _compact(size)}


def _rectangles(tokens: int, patch: tuple[int, int]) -> list[str]:
    rows = [r for r in range(1, tokens + 1) if tokens % r == 0 and 1 / 4 <= r * r / tokens <= 4]
    return [f"{r * patch[0]} x {tokens // r * patch[1]}" for r in rows] or [f"{patch[0]} x {tokens * patch[1]}"]


def _invisible(
    anatomy: Anatomy,
    model: VisionTransformer,
    *,
    named: bool,
    hints: Hints,
    overrides: Overrides,
    notes: list[str],
) -> dict[str, KwargValue]:
    kwargs: dict[str, KwargValue] = {}
    heads = overrides.num_heads or hints.num_heads or _heads(anatomy, model, named, notes)
    if heads < 1 or anatomy.embed_dim % heads:
        raise OptionError(
            "the head count does not divide the width",
            got=f"{heads} heads, width {anatomy.embed_dim}",
            expected="one of " + ", ".join(str(n) for n in range(1, 33) if anatomy.embed_dim % n == 0),
        )
    block: Any = model.blocks[0]
    if heads != block.attn.num_heads:
        kwargs["num_heads"] = heads
    own = _ACTIVATIONS.get(type(block.mlp.act).__name__)
    activation = overrides.activation or hints.activation
    if activation is not None and activation != own:
        kwargs["act_layer"] = activation
    eps = overrides.norm_eps if overrides.norm_eps is not None else hints.norm_eps
    if eps is not None and eps != getattr(block.norm1, "eps", None):
        kwargs["norm_eps"] = eps
    return kwargs


def _pool(
    anatomy: Anatomy, base: Anatomy, model: VisionTransformer, *, named: bool, hints: Hints, overrides: Overrides
) -> dict[str, KwargValue]:
    visible = str(anatomy.others["global_pool"])
    fc_norm = bool(anatomy.others["fc_norm"])
    own = str(model.global_pool)
    fixed = anatomy.distilled or visible in ("map", "token_avg")
    if overrides.pool is not None and (
        (fixed and overrides.pool != visible) or (overrides.pool == "token" and not anatomy.others["class_token"])
    ):
        raise OptionError(
            "the pooling contradicts the tensors",
            got=f"--pool {overrides.pool}",
            expected=visible,
            hint="leave it away",
        )
    # A named architecture knows its pooling, unless the file shows another: no class token, or a norm after pooling.
    said = own if named and fc_norm == base.others["fc_norm"] and own in ("token", "avg", "avgmax", "max") else None
    if said == "token" and not anatomy.others["class_token"]:
        said = None
    pool = visible if fixed else overrides.pool or hints.pool or said or visible
    if pool != own:
        # The norm's place would follow from the new pooling, so it has to be said.
        return {"global_pool": pool, "fc_norm": fc_norm}
    return {"fc_norm": fc_norm} if fc_norm != base.others["fc_norm"] else {}


def _heads(anatomy: Anatomy, model: VisionTransformer, named: bool, notes: list[str]) -> int:
    block: Any = model.blocks[0]
    own: int = block.attn.num_heads
    width = anatomy.embed_dim
    if model.embed_dim == width and (named or len(model.blocks) == anatomy.depth):
        return own
    if width in _HEADS:
        return _HEADS[width]
    if width % 64:
        divisors = [n for n in range(1, 33) if width % n == 0 and 16 <= width // n <= 128]
        raise AmbiguousCheckpointError(
            "the head count does not show in the shapes",
            got=f"width {width}, no multiple of 64",
            expected="one of " + ", ".join(map(str, divisors or [1])),
            hint="--num-heads decides",
        )
    notes.append(
        f"head count does not show in the shapes: took {width // 64} heads (width {width} / 64); --num-heads decides"
    )
    return width // 64


def known_sizes(hints: Hints, overrides: Overrides) -> tuple[tuple[int, int], ...]:
    """Image sizes that may tell the form of the position grid: first what the file says, then what the user wants."""
    return tuple(size for size in (hints.img_size, square(overrides.img_size)) if size is not None)


def square(size: tuple[int, ...] | None) -> tuple[int, int] | None:
    """`(side,)` or `(height, width)` as height and width."""
    if size is None:
        return None
    if len(size) not in (1, 2) or min(size) < 1:
        raise OptionError(
            "an image size is one side, or height and width", got=size, expected="1 or 2 positive numbers"
        )
    return size[0], size[-1]


def _compact(pair: tuple[int, int]) -> KwargValue:
    return pair[0] if pair[0] == pair[1] else pair
