"""What an encoded image may ask for, checked before memory is taken for its pixels."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vitrify.errors import ImageError, OptionError
from vitrify.pixels import _native


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Limits for images from sources that are not trusted; the defaults let every ordinary image through."""

    max_bytes: int = 256 * 2**20
    """Of the encoded file."""

    max_pixels: int = 178_956_970
    """Pillow's own threshold, `PIL.Image.MAX_IMAGE_PIXELS`."""

    max_ratio: int = 25_000
    """Decoded bytes for each encoded one; files below 4 KiB count as 4 KiB.

    JPEG and PNG cannot reach it without lying about their size. Lossless WebP of one single colour can.
    """

    def __post_init__(self) -> None:
        """Refuses limits that nothing passes."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not 1 <= value < 2**63:
                raise OptionError(f"{field.name} is out of range", got=value, expected="a positive 64-bit integer")

    def check_bytes(self, encoded: int) -> None:
        """The first check, of the file as it comes.

        Raises:
            ImageError: It has more than `max_bytes`.
        """
        if encoded > self.max_bytes:
            raise self._refusal("the image file is too large", f"{encoded} bytes")

    def check_dimensions(self, width: int, height: int, encoded: int) -> None:
        """The second check, of what the header says.

        Raises:
            ImageError: More than `max_pixels`, or more than the file's bytes can hold.
        """
        if width * height > self.max_pixels:
            raise self._refusal("the image has too many pixels", f"{width} x {height}")
        decoded = 3 * width * height
        if decoded // max(encoded, _SMALL_FILE) > self.max_ratio:
            raise self._refusal("the image file is too small for its pixels", f"{width} x {height} in {encoded} bytes")

    def native(self) -> _native.DecodeLimits:
        """The same for the native core."""
        return _native.DecodeLimits(self.max_bytes, self.max_pixels, self.max_ratio)

    def native_error(self, message: str) -> ImageError:
        """An error of the native core, whose lines are those of `vitrify.errors`, in the house's form."""
        what, *lines = message.splitlines()
        got = next((line.partition(": ")[2] for line in lines if line.startswith("  got: ")), "")
        if what in _LIMIT_OF:
            return self._refusal(what, got)
        if got:
            return ImageError(what, got=got, hint="open it in a viewer, or replace it")
        return ImageError("the image is damaged or truncated", got=what, hint="open it in a viewer, or replace it")

    def _refusal(self, what: str, got: str) -> ImageError:
        name, unit = _LIMIT_OF[what]
        return ImageError(
            what,
            got=got,
            expected=f"at most {getattr(self, name):,} {unit}",
            hint=f"pass DecodeLimits({name}=...) if the source is trusted",
        )


_SMALL_FILE = 4096

_LIMIT_OF = {
    "the image file is too large": ("max_bytes", "bytes"),
    "the image has too many pixels": ("max_pixels", "pixels"),
    "the image file is too small for its pixels": ("max_ratio", "decoded bytes for each byte of the file"),
}

DEFAULT_LIMITS = DecodeLimits()
