// Which pixel a patch's row has where: what the kernel computes, and the CPU's test with it.
#pragma once

#include "job.hpp"

namespace vitrify::cuda {

struct PatchValue {
  int image;
  int row;     // of the patch
  int column;  // of the patch
  int at;      // in the patch's row of values, the first of `wide`
};

// The `index`-th group of `wide` neighbouring values, image by image and patch by patch.
VITRIFY_BOTH inline PatchValue patch_value(std::int64_t index, int groups, int wide, int across, int down) {
  const int each = across * down * groups;
  const auto image = static_cast<int>(index / each);
  const int rest = static_cast<int>(index - static_cast<std::int64_t>(image) * each);
  const int cell = rest / groups;
  return {image, cell / across, cell % across, (rest - cell * groups) * wide};
}

// Where that value's pixel is in [images, 3, height, width].
VITRIFY_BOTH inline std::int64_t pixel_of(const PatchValue& value, int patch, int width, int height) {
  const int area = patch * patch;
  const int channel = value.at / area;
  const int inside = value.at - channel * area;
  const int y = value.row * patch + inside / patch;
  const int x = value.column * patch + inside % patch;
  return ((static_cast<std::int64_t>(value.image) * 3 + channel) * height + y) * width + x;
}

}  // namespace vitrify::cuda
