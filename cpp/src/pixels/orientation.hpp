// EXIF orientation: where it is written, and what it does to pixels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vitrify/image.hpp"

namespace vitrify::pixels {

inline constexpr int kUpright = 1;

// The orientation that a JPEG's APP1 segments give, 1 to 8; kUpright where they give none that can be read.
// `segment` is the payload after the length: "Exif\0\0" and a TIFF header, or an XMP packet.
[[nodiscard]] int exif_orientation(const std::uint8_t* segment, std::size_t size);
[[nodiscard]] int xmp_orientation(const std::uint8_t* segment, std::size_t size);

// Turns an image upright as PIL.ImageOps.exif_transpose does.
[[nodiscard]] Image upright(Image image, int orientation);

}  // namespace vitrify::pixels
