"""`TrainConfig`: every choice of a training run. Needs no PyTorch, so that `vitrify train --help` is instant.

vitrify train DATA --arch vit_base_patch16_224 --init pretrained -o RUN/
"""

# Annotations are evaluated here, so that a subclass in another module has them too.
import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from vitrify.errors import OptionError
from vitrify.spec import Interpolation, KwargValue, ResizeRule

Freeze = Literal["none", "backbone"]
Amp = Literal["none", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda"]

DEFAULT_ARCH = "vit_base_patch16_224"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. The defaults suit the fine-tuning of a Vision Transformer on a few thousand photos.

    Attributes:
        arch: timm's model name. Default: what the checkpoint of `init` says, else vit_base_patch16_224.
        init: Where the weights start: `pretrained` (timm's, downloaded), `none` (random), or a checkpoint's path.
        freeze: `backbone` trains the classification head alone; `none` trains everything.
        model_kwargs: What the model is built with beside its name, such as patch_size=8 depth=4.
        img_size: Side of the square input in pixels. Default: the model's own.
        epochs: Passes over the training images.
        batch_size: Images in one forward pass.
        accumulate: Forward passes before each update of the weights; multiplies the batch without its memory.
        lr: Peak learning rate of the head, for AdamW. Default: 2e-4 for fine-tuning, 1e-3 from random weights or for
            the head alone.
        weight_decay: AdamW's, on matrices only, as timm does it.
        layer_decay: Factor on the learning rate for each layer further from the head. Default: 0.75 for fine-tuning, 1
            (none) from random weights or for the head alone.
        warmup_epochs: Epochs in which the learning rate rises linearly from a hundredth; then it falls along a cosine.
            Default: a tenth of `epochs`.
        min_lr: Where the cosine ends.
        clip_grad: Largest norm of the gradient; 0 does not clip.
        label_smoothing: Share of the target that is spread over all classes.
        mixup: Alpha of Mixup; 0 is off.
        cutmix: Alpha of CutMix; 0 is off.
        drop_path: Stochastic depth, the drop rate of the last block; 0 is off.
        ema_decay: Decay of the moving average of the weights, with warm-up. Where it is on, the average is what is
            validated and saved. 0 is off.
        crop_min: Least share of the image's area that a random training crop shows.
        hflip: Mirror half of the training images; turn it off where left and right differ, as in digits and text.
        color_jitter: Range of random brightness, contrast and saturation; 0 is off.
        auto_augment: timm's policy, such as rand-m9-mstd0.5-inc1 (it replaces the colour jitter); empty is off.
        reprob: Probability that a random rectangle of a training image is erased.
        resize_rule: For validation and inference: `shortest` scales and crops the centre, `squash` ignores the shape,
            `longest` pads. Default: the model's own.
        crop_pct: For validation and inference: the crop's side as a share of the resized image's. Default: the model's.
        interpolation: Pillow's filter for training, validation and inference. Default: the model's own.
        val_fraction: Share of each class that is held out for validation; a folder with train/ and val/ has its split.
        seed: Decides the split, the initial weights and everything random in each epoch.
        device: Where to train; `auto` is CUDA where there is one, else the CPU.
        amp: Mixed precision of the training: `none` is float32, `fp16` needs CUDA. Validation is always float32.
        workers: Processes that prepare training images; the result does not depend on it. Default: none where all
            decoded images fit into the cache, else one a core, at most 8.
        cache_mb: Decoded images are kept in memory up to this size, in MiB, where there are no workers.
        patience: Stop after this many epochs without a better top-1; 0 runs all epochs.
        skip_bad: Train without the images that cannot be read, instead of stopping.
        resume: Go on with the run in the output folder, with the same options.
        overwrite: Replace the run in the output folder.
    """

    arch: str | None = None
    init: str = "pretrained"
    freeze: Freeze = "none"
    model_kwargs: dict[str, KwargValue] = field(default_factory=dict)
    img_size: int | None = None
    epochs: int = 30
    batch_size: int = 64
    accumulate: int = 1
    lr: float | None = None
    weight_decay: float = 0.05
    layer_decay: float | None = None
    warmup_epochs: float | None = None
    min_lr: float = 1e-6
    clip_grad: float = 1.0
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    drop_path: float = 0.0
    ema_decay: float = 0.0
    crop_min: float = 0.5
    hflip: bool = True
    color_jitter: float = 0.2
    auto_augment: str = ""
    reprob: float = 0.0
    resize_rule: ResizeRule | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    val_fraction: float = 0.2
    seed: int = 0
    device: Device = "auto"
    amp: Amp = "none"
    workers: int | None = None
    cache_mb: int = 1024
    patience: int = 0
    skip_bad: bool = False
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        _check_choices(self)
        for name, low, high in _RANGES:
            _check_range(name, getattr(self, name), low, high)
        for name in ("lr", "crop_min", "crop_pct", "layer_decay"):
            if getattr(self, name) == 0:
                raise OptionError(f"{name} cannot be 0", expected="a number above 0")
        if self.val_fraction in (0, 1):
            raise OptionError("val_fraction is out of range", got=self.val_fraction, expected="above 0 and below 1")
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise OptionError(
                "the warm-up takes the whole training",
                got=f"warmup_epochs={self.warmup_epochs}, epochs={self.epochs}",
                expected="fewer warm-up epochs than epochs",
            )
        if self.mixes and self.batch_size % 2:
            raise OptionError(
                "mixup and cutmix pair the images of a batch",
                got=f"batch_size={self.batch_size}",
                expected="an even number",
            )
        if self.resume and self.overwrite:
            raise OptionError("resume and overwrite contradict each other", hint="give one of them")
        size = self.model_kwargs.get("img_size")
        if size is not None and self.img_size is not None and size != self.img_size:
            raise OptionError(
                "the image size is given twice", got=f"img_size={self.img_size}, model_kwargs img_size={size}"
            )

    @property
    def mixes(self) -> bool:
        """Whether Mixup or CutMix is on."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def fine_tunes(self) -> bool:
        """Whether trained weights are changed, rather than random ones, or the head alone."""
        return self.init != "none" and self.freeze == "none"

    def resolved(self) -> "TrainConfig":
        """A copy in which `lr`, `layer_decay` and `warmup_epochs` have their values, as the run records them."""
        return dataclasses.replace(
            self,
            lr=self.lr if self.lr is not None else (2e-4 if self.fine_tunes else 1e-3),
            layer_decay=self.layer_decay if self.layer_decay is not None else (0.75 if self.fine_tunes else 1.0),
            warmup_epochs=self.warmup_epochs if self.warmup_epochs is not None else self.epochs / 10,
        )


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("img_size", 1, 8192),
    ("epochs", 1, math.inf),
    ("batch_size", 1, math.inf),
    ("accumulate", 1, math.inf),
    ("lr", 0, math.inf),
    ("weight_decay", 0, math.inf),
    ("layer_decay", 0, 1),
    ("warmup_epochs", 0, math.inf),
    ("min_lr", 0, math.inf),
    ("clip_grad", 0, math.inf),
    ("label_smoothing", 0, 0.999),
    ("mixup", 0, math.inf),
    ("cutmix", 0, math.inf),
    ("drop_path", 0, 0.999),
    ("ema_decay", 0, 0.999999),
    ("crop_min", 0, 1),
    ("color_jitter", 0, 1),
    ("reprob", 0, 1),
    ("crop_pct", 0, 1),
    ("val_fraction", 0, 1),
    ("seed", 0, 2**32 - 1),
    ("workers", 0, 1024),
    ("cache_mb", 0, math.inf),
    ("patience", 0, math.inf),
)

_CHOICES: tuple[tuple[str, Any], ...] = (
    ("freeze", Freeze),
    ("amp", Amp),
    ("device", Device),
    ("resize_rule", ResizeRule),
    ("interpolation", Interpolation),
)


def _check_choices(config: TrainConfig) -> None:
    for name, kind in _CHOICES:
        value = getattr(config, name)
        if value is not None and value not in get_args(kind):
            raise OptionError(f"{name} has an unknown value", got=repr(value), expected=" or ".join(get_args(kind)))


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is None or (low <= value <= high and math.isfinite(value)):
        return
    expected = f"a finite number of at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
    # Zero is falsy, and a message without what was given is half a message.
    raise OptionError(f"{name} is out of range", got=str(value), expected=expected)
