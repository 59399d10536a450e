// A tile of the crop: what a block of threads computes, and the CPU's test with it.
#pragma once

#include "job.hpp"

namespace vitrify::cuda {

inline constexpr int kTileWidth = 32;
inline constexpr int kTileHeight = 8;
inline constexpr int kChunk = 64;     // lines between the two passes that are held at once
inline constexpr int kFraction = 22;  // bits; coefficients.hpp, kPrecisionBits

VITRIFY_BOTH inline std::uint8_t rounded(std::int32_t sum) {
  const std::int32_t value = sum >> kFraction;
  return static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

// One output of the first pass: the weighted sum of the pixels of a line, a channel each.
struct Sums {
  std::int32_t red = 1 << (kFraction - 1);
  std::int32_t green = 1 << (kFraction - 1);
  std::int32_t blue = 1 << (kFraction - 1);

  VITRIFY_BOTH void add(const std::uint8_t* rgb, std::int32_t weight) {
    red += weight * rgb[0];
    green += weight * rgb[1];
    blue += weight * rgb[2];
  }
  VITRIFY_BOTH void store(std::uint8_t* rgb) const {
    rgb[0] = rounded(red);
    rgb[1] = rounded(green);
    rgb[2] = rounded(blue);
  }
};

// Where `line` of the source begins, and how far apart its pixels are, for a pass along x or along y.
struct Line {
  const std::uint8_t* begin;
  std::int64_t step;
};

VITRIFY_BOTH inline Line line_of(const Job& job, const std::uint8_t* pixels, bool along_x, int line) {
  const std::uint8_t* origin = pixels + job.pixels;
  return along_x ? Line{origin + line * job.row_stride, job.column_stride}
                 : Line{origin + line * job.column_stride, job.row_stride};
}

VITRIFY_BOTH inline void resample(const Line& line, const Axis& axis, const std::int32_t* numbers, int output,
                                  std::uint8_t* rgb) {
  const std::uint8_t* pixel = line.begin + numbers[axis.first + output] * line.step;
  const std::int32_t* weights = numbers + axis.weights + static_cast<std::int64_t>(output) * axis.taps;
  const int count = numbers[axis.count + output];
  Sums sums;
  for (int k = 0; k < count; ++k, pixel += line.step) {
    sums.add(pixel, weights[k]);
  }
  sums.store(rgb);
}

// The part of the second pass's sum whose lines are in [chunk_begin, chunk_end); `middle` has them, `step` bytes apart.
VITRIFY_BOTH inline void accumulate(Sums& sums, const Axis& axis, const std::int32_t* numbers, int output,
                                    int chunk_begin, int chunk_end, const std::uint8_t* middle, int step) {
  const int first = numbers[axis.first + output];
  const int last = first + numbers[axis.count + output];
  const std::int32_t* weights = numbers + axis.weights + static_cast<std::int64_t>(output) * axis.taps;
  const int begin = first > chunk_begin ? first : chunk_begin;
  const int end = last < chunk_end ? last : chunk_end;
  for (int line = begin; line < end; ++line) {
    sums.add(middle + (line - chunk_begin) * step, weights[line - first]);
  }
}

// The lines that outputs [begin, end) of an axis need. They grow with the output, so that its ends tell.
struct Lines {
  int begin;
  int end;
};

VITRIFY_BOTH inline Lines lines_of(const Axis& axis, const std::int32_t* numbers, int begin, int end) {
  const int last = end - 1;
  return {numbers[axis.first + begin], numbers[axis.first + last] + numbers[axis.count + last]};
}

}  // namespace vitrify::cuda
