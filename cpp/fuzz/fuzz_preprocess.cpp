// Bytes to a tensor: the first four bytes choose the spec, the rest is the image. A tensor that comes out must be the
// one that the decoded pixels make, so that no row or column goes astray between the decoder and the crop.
#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "vitrify/image.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) {
    return 0;
  }
  vitrify::Preprocess spec;
  spec.resize_rule = static_cast<vitrify::ResizeRule>(data[0] % 3);
  spec.interpolation = static_cast<vitrify::Interpolation>(data[0] / 3 % 6);
  spec.resize_box = {1 + data[1] % 64, data[2] % 2 == 0 ? 1 + data[1] % 64 : 1 + data[2] % 64};
  spec.crop = {1 + data[3] % 48, 1 + data[2] % 48};
  vitrify::DecodeOptions options;
  options.limits.max_pixels = 1 << 18;
  options.fast = data[3] >= 192;
  const std::size_t values = 3 * static_cast<std::size_t>(spec.crop.width) * static_cast<std::size_t>(spec.crop.height);
  std::vector<float> fused(values);
  try {
    vitrify::preprocess_encoded(data + 4, size - 4, spec, options, fused.data());
  } catch (const vitrify::ImageError&) {
    return 0;
  }
  if (options.fast) {
    return 0;
  }
  try {
    const vitrify::Image image = vitrify::decode(data + 4, size - 4, options);
    std::vector<float> apart(values);
    vitrify::preprocess_rgb(image.rgb.data(), image.size, spec, apart.data());
    if (std::memcmp(fused.data(), apart.data(), values * sizeof(float)) != 0) {
      std::abort();
    }
  } catch (const vitrify::ImageError&) {
    // Damage in rows that the crop does not need.
  }
  return 0;
}
