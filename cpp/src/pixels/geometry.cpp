#include "geometry.hpp"

#include <cstdint>

namespace vitrify::pixels {

Placement place(int resized, int crop) {
  if (resized < crop) {
    return {{0, resized}, (crop - resized) / 2};
  }
  const int begin = static_cast<int>(round_even((resized - crop) / 2.0));
  return {{begin, begin + crop}, 0};
}

bool vertical_comes_first(Size image, Size resized, Interpolation interpolation) {
  const std::int64_t lines = std::int64_t{image.height} - resized.height;
  const std::int64_t columns = std::int64_t{image.width} - resized.width;
  // One pass alone has no order, and nearest none that shows.
  const bool two_passes = lines != 0 && columns != 0 && interpolation != Interpolation::nearest;
  return two_passes && lines > 0 && lines > 2 * columns;
}

}  // namespace vitrify::pixels
