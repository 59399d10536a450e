// EXIF orientation: where it is written, and what it does to pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "vitrify/image.hpp"

namespace vitrify::pixels {

inline constexpr int kUpright = 1;

inline constexpr std::string_view kExifHeader{"Exif\0\0", 6};
inline constexpr std::string_view kXmpHeader{"http://ns.adobe.com/xap/1.0/\0", 29};

inline std::string_view view_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}
inline bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// A format's metadata, as its decoder found it.
struct Metadata {
  std::string exif;  // a TIFF structure, with or without kExifHeader
  std::string xmp;
};

// The orientation that Pillow would apply, 1 to 8: EXIF's, or XMP's where EXIF names none.
[[nodiscard]] int orientation_of(const Metadata& metadata);

// Turns an image upright as PIL.ImageOps.exif_transpose does.
[[nodiscard]] Image upright(Image image, int orientation);

}  // namespace vitrify::pixels
