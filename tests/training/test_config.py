from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from typing import Any

import pytest

from vitrify.errors import OptionError
from vitrify.training import TrainConfig


def test_defaults_follow_what_is_trained() -> None:
    fine_tuning = TrainConfig().resolved()
    assert (fine_tuning.lr, fine_tuning.layer_decay, fine_tuning.warmup_epochs) == (2e-4, 0.75, 3.0)
    for config in (TrainConfig(init="none"), TrainConfig(freeze="backbone")):
        assert (config.resolved().lr, config.resolved().layer_decay) == (1e-3, 1.0)
    assert TrainConfig(lr=5e-5, warmup_epochs=0).resolved().lr == 5e-5
    assert TrainConfig(warmup_epochs=0).resolved().warmup_epochs == 0


def test_every_option_is_documented() -> None:
    text = TrainConfig.__doc__ or ""
    documented = re.findall(r"^        (\w+): ", text, flags=re.MULTILINE)
    assert documented == [field.name for field in dataclasses.fields(TrainConfig)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": 0.0}, "lr"),
        ({"lr": -1.0}, "lr"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"seed": -1}, "seed"),
        ({"amp": "fp8"}, "amp"),
        ({"device": "tpu"}, "device"),
        ({"freeze": "head"}, "freeze"),
        ({"interpolation": "magic"}, "interpolation"),
        ({"epochs": 3, "warmup_epochs": 3}, "warm-up"),
        ({"mixup": 0.2, "batch_size": 7}, "even"),
        ({"resume": True, "overwrite": True}, "contradict"),
        ({"img_size": 32, "model_kwargs": {"img_size": 64}}, "twice"),
    ],
)
def test_unusable_values_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TrainConfig(**options)


def test_a_value_out_of_range_is_shown_even_when_it_is_zero() -> None:
    with pytest.raises(OptionError, match=r"got: 0"):
        TrainConfig(epochs=0)


def test_the_config_needs_no_torch() -> None:
    code = "import sys; from vitrify.training import TrainConfig; TrainConfig(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_extra_names_the_pip_command() -> None:
    code = (
        "import sys; sys.modules['timm'] = None\n"
        "import vitrify.training\n"
        "try: vitrify.training.fit\n"
        "except vitrify.errors.MissingExtraError as error: print(error)"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert 'pip install "vitrify[train]"' in output
