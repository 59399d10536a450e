#include "pipeline.hpp"

#include <algorithm>
#include <cstring>

#include "reader.hpp"
#include "shares.hpp"

namespace vitrify::pixels {
Pipeline::Pipeline(Size image, Size resized, Range columns, Range rows, Interpolation interpolation)
    : interpolation_(interpolation),
      columns_(columns),
      rows_(rows),
      horizontal_(image.width != resized.width),
      vertical_(image.height != resized.height),
      input_rows_(rows),
      input_columns_(columns),
      kernels_(kernels()) {
  if (interpolation == Interpolation::nearest) {
    nearest_x_ = nearest_inputs(image.width, resized.width, columns.begin, columns.end);
    nearest_y_ = nearest_inputs(image.height, resized.height, rows.begin, rows.end);
    input_columns_ = {nearest_x_.front(), nearest_x_.back() + 1};
    input_rows_ = {nearest_y_.front(), nearest_y_.back() + 1};
  } else {
    if (horizontal_) {
      x_axis_ = make_coefficients(image.width, resized.width, columns.begin, columns.end, interpolation);
      x_weights_ = pack_weights(x_axis_, kernels_.form);
      input_columns_ = {x_axis_.input_begin(), x_axis_.input_end()};
    }
    if (vertical_) {
      y_axis_ = make_coefficients(image.height, resized.height, rows.begin, rows.end, interpolation);
      input_rows_ = {y_axis_.input_begin(), y_axis_.input_end()};
    }
  }
  vertical_first_ = vertical_comes_first(image, resized, interpolation);
  row_bytes_ = static_cast<std::size_t>(columns_.size()) * 3;
  stride_ = vertical_first_ ? static_cast<std::size_t>(input_columns_.size()) * 3 : row_bytes_;
  if (vertical_first_) {
    line_.resize(stride_);
  }
  middle_.resize(static_cast<std::size_t>(input_rows_.size()) * stride_);
}

Pipeline::Feed::Feed(Pipeline& pipeline, int row)
    : pipeline_(&pipeline),
      out_(pipeline.middle_.data() + static_cast<std::size_t>(row - pipeline.input_rows_.begin) * pipeline.stride_) {}

void Pipeline::Feed::push(const Row& row) {
  const Pipeline& to = *pipeline_;
  const auto first = static_cast<std::size_t>(to.input_columns_.begin - row.first_column);
  if (to.interpolation_ == Interpolation::nearest) {
    to.pick_nearest(row, out_);
  } else if (!to.horizontal_ || to.vertical_first_) {
    copy_row(row, to.input_columns_, out_);
  } else if (row.rgb != nullptr) {
    to.resample_row(row.rgb + 3 * first, planes_, out_);
  } else {
    const std::uint8_t* const planes[3] = {row.planes[0] + first, row.planes[1] + first, row.planes[2] + first};
    to.kernels_.horizontal(planes, to.input_columns_.begin, to.x_weights_, out_);
  }
  out_ += to.stride_;
}

void Pipeline::pick_nearest(const Row& row, std::uint8_t* out) const {
  for (const int x : nearest_x_) {
    const auto column = static_cast<std::size_t>(x - row.first_column);
    for (std::size_t c = 0; c < 3; ++c) {
      *out++ = row.rgb != nullptr ? row.rgb[3 * column + c] : row.planes[c][column];
    }
  }
}

void Pipeline::resample_row(const std::uint8_t* rgb, std::vector<std::uint8_t>& planes, std::uint8_t* out) const {
  const auto pixels = static_cast<std::size_t>(input_columns_.size());
  const std::size_t plane_size = pixels + 2 * kPadding;
  planes.resize(3 * plane_size);
  std::uint8_t* split[3] = {planes.data(), planes.data() + plane_size, planes.data() + 2 * plane_size};
  kernels_.split(rgb, pixels, split);
  kernels_.horizontal(split, input_columns_.begin, x_weights_, out);
}

void Pipeline::row(int index, std::uint8_t* rgb) {
  const auto i = static_cast<std::size_t>(index);
  if (interpolation_ == Interpolation::nearest) {
    std::memcpy(rgb, middle_.data() + static_cast<std::size_t>(nearest_y_[i] - input_rows_.begin) * stride_, stride_);
  } else if (!vertical_) {
    std::memcpy(rgb, middle_.data() + i * stride_, stride_);
  } else {
    const int first_row = y_axis_.first[i] - input_rows_.begin;
    const std::int32_t* weights = &y_axis_.weights[i * static_cast<std::size_t>(y_axis_.taps)];
    kernels_.vertical(middle_.data() + static_cast<std::size_t>(first_row) * stride_, stride_, weights,
                      y_axis_.count[i], stride_, vertical_first_ ? line_.data() : rgb);
    if (vertical_first_) {
      resample_row(line_.data(), planes_, rgb);
    }
  }
}

}  // namespace vitrify::pixels
