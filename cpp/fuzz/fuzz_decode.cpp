// Bytes to pixels: whatever they are, an image within the limits or an ImageError.
#include <cstdlib>

#include "vitrify/image.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vitrify::DecodeOptions options;
  options.limits.max_pixels = 1 << 18;  // larger ones only cost time
  try {
    const vitrify::Image image = vitrify::decode(data, size, options);
    const auto pixels = static_cast<std::size_t>(image.size.width) * static_cast<std::size_t>(image.size.height);
    if (pixels == 0 || image.rgb.size() != 3 * pixels) {
      std::abort();
    }
  } catch (const vitrify::ImageError&) {
  }
  return 0;
}
