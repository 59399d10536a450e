// EXIF and XMP of a PNG, wherever in the file they stand.
#pragma once

#include <cstddef>
#include <cstdint>

#include "orientation.hpp"

namespace vitrify::pixels {

// Reads eXIf, XMP in iTXt, and the "Raw profile type exif" text that ImageMagick writes, before and behind the pixels.
// Chunks that cannot be read count as none.
[[nodiscard]] Metadata png_metadata(const std::uint8_t* data, std::size_t size);

}  // namespace vitrify::pixels
