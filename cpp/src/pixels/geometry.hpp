// Where the crop lies, and in which order the two passes go.
#pragma once

#include <cmath>

#include "vitrify/image.hpp"

namespace vitrify::pixels {

// A half-open range of rows or columns.
struct Range {
  int begin = 0;
  int end = 0;
  [[nodiscard]] int size() const { return end - begin; }
};

// Half to even, as Python rounds.
inline double round_even(double value) { return std::nearbyint(value); }

// Which outputs of an axis the crop keeps, and where they land in it; see torchvision's center_crop.
struct Placement {
  Range from;
  int to = 0;
};
[[nodiscard]] Placement place(int resized, int crop);

// Pillow 13 resizes vertically first where that removes more than twice as many lines as the horizontal pass removes
// columns (https://github.com/python-pillow/Pillow/pull/9549); earlier ones never. With 8 bits between the passes the
// order shows in the last digit, in images more than about twice as tall as wide.
[[nodiscard]] bool vertical_comes_first(Size image, Size resized, Interpolation interpolation);

}  // namespace vitrify::pixels
