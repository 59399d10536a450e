// Pillow's resampling weights: which input pixels make an output pixel, and how much of each.
#pragma once

#include <cstdint>
#include <vector>

#include "vitrify/image.hpp"

namespace vitrify::pixels {

// Fixed-point weights have this many fractional bits: 32 less 8 for the pixel and 2 for the sum's sign and overshoot
// (Pillow, src/libImaging/Resample.c, PRECISION_BITS).
inline constexpr int kPrecisionBits = 32 - 8 - 2;

// The weights of one axis, for a range of its outputs.
struct Coefficients {
  int taps = 0;                       // room for the weights of one output; unused ones are zero
  std::vector<int> first;             // [outputs] first input pixel
  std::vector<int> count;             // [outputs] how many
  std::vector<std::int32_t> weights;  // [outputs, taps]

  [[nodiscard]] int outputs() const { return static_cast<int>(first.size()); }
  // The inputs that any output needs: [input_begin, input_end).
  [[nodiscard]] int input_begin() const;
  [[nodiscard]] int input_end() const;
};

// Weights for outputs [begin, end) of an axis that goes from `input` to `output` pixels. Not for nearest.
[[nodiscard]] Coefficients make_coefficients(int input, int output, int begin, int end, Interpolation interpolation);

// Pillow's nearest neighbour: the input pixel of outputs [begin, end).
[[nodiscard]] std::vector<int> nearest_inputs(int input, int output, int begin, int end);

}  // namespace vitrify::pixels
