#include <numeric>
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

// The weights of the outputs that the crop keeps.
pixels::Coefficients weights_of(int input, int resized, pixels::Range outputs, Interpolation interpolation) {
  if (interpolation != Interpolation::nearest && input != resized) {
    return pixels::make_coefficients(input, resized, outputs.begin, outputs.end, interpolation);
  }
  // One weight of 1: the sum's rounding leaves a pixel as it is.
  const auto count = static_cast<std::size_t>(outputs.size());
  pixels::Coefficients table{1, {}, std::vector<int>(count, 1), std::vector<std::int32_t>(count, kOne)};
  if (interpolation == Interpolation::nearest) {
    table.first = pixels::nearest_inputs(input, resized, outputs.begin, outputs.end);
  } else {
    table.first.resize(count);
    std::iota(table.first.begin(), table.first.end(), outputs.begin);
  }
  return table;
}

// Adds an axis of the upright image, and gives the inputs that it reads; of `whole` images, all.
Axis add_axis(int input, int resized, int crop, Interpolation interpolation, bool whole, pixels::Range& inputs,
              std::vector<std::int32_t>& numbers) {
  const pixels::Placement placement = pixels::place(resized, crop);
  pixels::Coefficients table = weights_of(input, resized, placement.from, interpolation);
  inputs = whole ? pixels::Range{0, input} : pixels::Range{table.input_begin(), table.input_end()};
  for (int& first : table.first) {
    first -= inputs.begin;
  }
  const std::int32_t first = append(numbers, table.first);
  const std::int32_t count = append(numbers, table.count);
  const std::int32_t weights = append(numbers, table.weights);
  return {first, count, weights, table.taps, placement.from.size(), placement.to};
}

// The same inputs, counted from the other end.
pixels::Range mirrored(pixels::Range inputs, int input) { return {input - inputs.end, input - inputs.begin}; }

}  // namespace

void Plan::clear() {
  jobs.clear();
  numbers.clear();
  pixel_bytes = 0;
}

Window Plan::add(Size stored, int orientation, const Preprocess& spec, bool whole) {
  // EXIF's orientations 5 to 8 exchange rows and columns; 2, 3, 7, 8 run from the right, 3, 4, 6, 7 from below, in
  // terms of the stored image's axes that they show: EXIF 2.32, tag 0x0112.
  const bool exchanged = orientation >= 5;
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const Size upright = exchanged ? Size{stored.height, stored.width} : stored;
  const Size resized = resized_size(upright, spec);
  Job job{};
  pixels::Range columns;
  pixels::Range rows;
  job.x = add_axis(upright.width, resized.width, spec.crop.width, spec.interpolation, whole, columns, numbers);
  job.y = add_axis(upright.height, resized.height, spec.crop.height, spec.interpolation, whole, rows, numbers);
  job.vertical_first = pixels::vertical_comes_first(upright, resized, spec.interpolation);

  // From here on in the stored image.
  if (exchanged) {
    std::swap(columns, rows);
  }
  columns = from_right ? mirrored(columns, stored.width) : columns;
  rows = from_below ? mirrored(rows, stored.height) : rows;
  const Window window{pixel_bytes, columns.begin, rows.begin, {columns.size(), rows.size()}};
  const std::int64_t row = 3 * std::int64_t{window.size.width};
  job.pixels = static_cast<std::int64_t>(window.at) + (from_right ? row - 3 : 0) +
               (from_below ? row * (window.size.height - 1) : 0);
  job.column_stride = from_right ? -3 : 3;
  job.row_stride = from_below ? -row : row;
  if (exchanged) {
    std::swap(job.column_stride, job.row_stride);
  }
  jobs.push_back(job);
  const std::size_t bytes = static_cast<std::size_t>(row) * static_cast<std::size_t>(window.size.height);
  pixel_bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return window;
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
