// Encoded bytes to upright RGB.
#include <cstring>

#include "jpeg.hpp"
#include "orientation.hpp"
#include "vitrify/image.hpp"

namespace vitrify {

Format format_of(const std::uint8_t* data, std::size_t size) noexcept {
#ifdef VITRIFY_JPEG
  constexpr std::uint8_t jpeg[] = {0xFF, 0xD8, 0xFF};
  if (size >= sizeof jpeg && std::memcmp(data, jpeg, sizeof jpeg) == 0) {
    return Format::jpeg;
  }
#endif
  static_cast<void>(data);
  static_cast<void>(size);
  return Format::unknown;
}

Image decode(const std::uint8_t* data, std::size_t size, const DecodeOptions& options) {
  if (format_of(data, size) == Format::unknown) {
    throw ImageError("not an image that this build can read");
  }
#ifdef VITRIFY_JPEG
  pixels::JpegReader reader(data, size, options.limits);
  const Size dimensions = reader.size();
  const std::size_t stride = 3 * static_cast<std::size_t>(dimensions.width);
  Image image{dimensions, std::vector<std::uint8_t>(stride * static_cast<std::size_t>(dimensions.height))};
  std::uint8_t* row = image.rgb.data();
  reader.read({0, dimensions.width}, {0, dimensions.height}, [&](const std::uint8_t* rgb, int /*first_column*/) {
    std::memcpy(row, rgb, stride);
    row += stride;
  });
  return pixels::upright(std::move(image), reader.orientation());
#else
  static_cast<void>(options);
  return {};
#endif
}

}  // namespace vitrify
