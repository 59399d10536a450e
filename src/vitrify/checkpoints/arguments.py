"""The keyword arguments that a file may have a model built with: which names, and which values.

timm's `create_model` takes many more, among them files to read (`checkpoint_path` unpickles one), folders to write to
(`cache_dir`), sites to download from (`pretrained_cfg`) and classes to build with. A spec comes from anywhere, so that
what is not known to change nothing but the network is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from vitrify.checkpoints.model import Activation
from vitrify.errors import OptionError
from vitrify.spec import KwargValue
from vitrify.spec.model_spec import MAX_SIDE


@dataclass(frozen=True)
class _Rule:
    expected: str
    holds: Callable[[KwargValue], bool]


def _is_count(value: KwargValue, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _count(low: int, high: int) -> _Rule:
    return _Rule(f"a whole number from {low} to {high}", lambda value: _is_count(value, low, high))


def _side(high: int) -> _Rule:
    def holds(value: KwargValue) -> bool:
        sides = value if isinstance(value, tuple) and len(value) == 2 else (value,)
        return all(_is_count(side, 1, high) for side in sides)

    return _Rule(f"pixels from 1 to {high}, or height and width", holds)


def _number(low: float, high: float, *, nullable: bool = False) -> _Rule:
    def holds(value: KwargValue) -> bool:
        if value is None:
            return nullable
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high

    return _Rule(f"a number from {low:g} to {high:g}" + (" or none" if nullable else ""), holds)


def _word(*words: str) -> _Rule:
    return _Rule("one of " + ", ".join(word or "''" for word in words), lambda value: value in words)


_FLAG = _Rule("true or false", lambda value: isinstance(value, bool))
_FLAG_OR_NONE = _Rule("true, false or none", lambda value: value is None or isinstance(value, bool))
_SHARE = _number(0, 1)
_TINY = math.ulp(0.0)

RULES: Mapping[str, _Rule] = {
    "img_size": _side(MAX_SIDE),
    "patch_size": _side(1024),
    "in_chans": _count(3, 3),
    "embed_dim": _count(1, 16384),
    "depth": _count(1, 256),
    "num_heads": _count(1, 1024),
    "mlp_ratio": _number(_TINY, 64),
    "representation_size": _count(1, 65536),
    "reg_tokens": _count(0, 1024),
    "norm_eps": _number(_TINY, 1),
    "init_values": _number(0, 1000, nullable=True),
    "global_pool": _word("", "token", "avg", "avgmax", "max", "map", "token_avg"),
    "pos_embed": _word("", "none", "learn"),
    "act_layer": _word(*get_args(Activation)),
    "weight_init": _word("", "skip", "reset", "jax", "jax_nlhb", "moco"),
    **dict.fromkeys(
        ("qkv_bias", "proj_bias", "qk_norm", "scale_attn_norm", "scale_mlp_norm", "class_token", "no_embed_class"),
        _FLAG,
    ),
    **dict.fromkeys(
        ("pre_norm", "final_norm", "pool_include_prefix", "dynamic_img_size", "dynamic_img_pad", "fix_init"), _FLAG
    ),
    "fc_norm": _FLAG_OR_NONE,
    **dict.fromkeys(
        ("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"), _SHARE
    ),
}
"""Name to what its value may be: those of timm's VisionTransformer that are plain values, and vitrify's three."""


def check_arguments(model_kwargs: Mapping[str, KwargValue]) -> None:
    """Refuses a keyword argument that is not in `RULES`, or whose value is not what its rule says.

    Raises:
        OptionError: Names the argument.
    """
    for name, value in model_kwargs.items():
        rule = RULES.get(name)
        if rule is None:
            raise OptionError(
                f"a model cannot be built with model_kwargs.{name}",
                got=f"{value!r:.80}",
                expected="one of " + ", ".join(RULES),
            )
        if not rule.holds(value):
            raise OptionError(
                f"model_kwargs.{name} has a value that it cannot have", got=f"{value!r:.80}", expected=rule.expected
            )
