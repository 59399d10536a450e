"""`ClassifierOptions`: how images become labels, in the words that the commands and C++ have too."""

# Annotations are evaluated here, so that what is made from them has the types.
import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from vitrify.errors import OptionError
from vitrify.pixels import DecodeLimits
from vitrify.runtimes import PixelsOn, SelfTest
from vitrify.spec import ModelSpec

_LIMITS = DecodeLimits()


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """How images become labels.

    Attributes:
        runtime: auto, or a runtime's name.
        precision: auto takes bf16 in OpenVINO where the processor has it and the artifact's record says that it passed
            its gate on real images, fp16 in cuda, else what the artifact says. fp32 runs int8 dequantised.
        threads: Threads of the runtime and of preprocessing, which share a large baseline JPEG where there are fewer
            images; by default one a core.
        batch_size: Most images in one inference.
        top_k: Labels for each image.
        pixels: Where images are resized, cropped and normalised: auto takes the runtime's GPU where it can. The tensors
            are the same.
        self_test: When golden vectors run: auto at the first opening of this file in this runtime on this machine.
        like: A spec of the same model, for a foreign checkpoint whose tensors do not tell everything; artifacts do.
        max_bytes: Most bytes of an encoded image.
        max_pixels: Most pixels of an image, as its header says.
        max_ratio: Most decoded bytes for each encoded one.
        max_memory: Most bytes that decoding may take, where that is far more than the pixels.
        max_scan_pixels: Most pixels times scans of a JPEG in several.

    Raises:
        OptionError: A value that cannot be.
    """

    runtime: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp8"] = "auto"
    threads: int | None = None
    batch_size: int = 8
    top_k: int = 5
    pixels: PixelsOn = "auto"
    self_test: SelfTest = "auto"
    like: ModelSpec | None = None
    max_bytes: int = _LIMITS.max_bytes
    max_pixels: int = _LIMITS.max_pixels
    max_ratio: int = _LIMITS.max_ratio
    max_memory: int = _LIMITS.max_memory
    max_scan_pixels: int = _LIMITS.max_scan_pixels

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        for field in dataclasses.fields(self):
            value, words = getattr(self, field.name), get_args(field.type)
            if get_origin(field.type) is Literal and value not in words:
                raise OptionError(f"{field.name} has an unknown value", got=repr(value), expected=" or ".join(words))
        for name in ("batch_size", "top_k", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"{name} is not positive", got=value, expected="1 or more")
        self.limits  # noqa: B018 - it refuses its own

    @property
    def limits(self) -> DecodeLimits:
        """What an encoded image may ask for."""
        return DecodeLimits(**{field.name: getattr(self, field.name) for field in dataclasses.fields(DecodeLimits)})
