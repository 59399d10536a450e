#include <utility>

#include "coefficients.hpp"
#include "geometry.hpp"
#include "orientation.hpp"
#include "preprocess.hpp"

namespace vitrify::cuda {
namespace {

constexpr std::int32_t kOne = 1 << pixels::kPrecisionBits;
// What cudaMalloc aligns to; a row that begins at a round address is read in fewer pieces.
constexpr std::size_t kAlignment = 256;

std::int32_t append(std::vector<std::int32_t>& numbers, const std::vector<std::int32_t>& more) {
  const auto at = static_cast<std::int32_t>(numbers.size());
  numbers.insert(numbers.end(), more.begin(), more.end());
  return at;
}

Axis axis_of(int input, int resized, int crop, Interpolation interpolation, std::vector<std::int32_t>& numbers) {
  const pixels::Placement placement = pixels::place(resized, crop);
  const int begin = placement.from.begin;
  const int end = placement.from.end;
  pixels::Coefficients table;
  if (interpolation != Interpolation::nearest && input != resized) {
    table = pixels::make_coefficients(input, resized, begin, end, interpolation);
  } else {
    // One weight of 1: the sum's rounding leaves a pixel as it is.
    const auto outputs = static_cast<std::size_t>(end - begin);
    table.taps = 1;
    table.count.assign(outputs, 1);
    table.weights.assign(outputs, kOne);
    if (interpolation == Interpolation::nearest) {
      table.first = pixels::nearest_inputs(input, resized, begin, end);
    } else {
      for (int output = begin; output < end; ++output) {
        table.first.push_back(output);
      }
    }
  }
  const std::int32_t first = append(numbers, table.first);
  const std::int32_t count = append(numbers, table.count);
  const std::int32_t weights = append(numbers, table.weights);
  return {first, count, weights, table.taps, end - begin, placement.to};
}

}  // namespace

void Plan::clear() {
  jobs.clear();
  numbers.clear();
  pixel_bytes = 0;
}

std::size_t Plan::add(Size stored, int orientation, const Preprocess& spec) {
  // EXIF's orientations 5 to 8 exchange rows and columns; 2, 3, 7, 8 run from the right, 3, 4, 6, 7 from below, in
  // terms of the stored image's axes that they show: EXIF 2.32, tag 0x0112.
  const bool exchanged = orientation >= 5;
  const Size upright = exchanged ? Size{stored.height, stored.width} : stored;
  const Size resized = resized_size(upright, spec);
  const std::int64_t row = 3 * std::int64_t{stored.width};
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  std::int64_t along = from_right ? -3 : 3;
  std::int64_t down = from_below ? -row : row;

  const std::size_t at = pixel_bytes;
  Job job{};
  job.pixels =
      static_cast<std::int64_t>(at) + (from_right ? row - 3 : 0) + (from_below ? row * (stored.height - 1) : 0);
  if (exchanged) {
    std::swap(along, down);
  }
  job.column_stride = along;
  job.row_stride = down;
  job.x = axis_of(upright.width, resized.width, spec.crop.width, spec.interpolation, numbers);
  job.y = axis_of(upright.height, resized.height, spec.crop.height, spec.interpolation, numbers);
  job.vertical_first = pixels::vertical_comes_first(upright, resized, spec.interpolation);
  jobs.push_back(job);
  const std::size_t bytes = static_cast<std::size_t>(row) * static_cast<std::size_t>(stored.height);
  pixel_bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return at;
}

Table normalised(const Preprocess& spec) {
  Table table{};
  for (std::size_t c = 0; c < 3; ++c) {
    for (std::size_t v = 0; v < 256; ++v) {
      const float scaled = static_cast<float>(v) / 255.0F;
      const float centred = scaled - spec.mean[c];
      table[c][v] = centred / spec.std[c];
    }
  }
  return table;
}

}  // namespace vitrify::cuda
