#include "pipeline.hpp"

#include <algorithm>
#include <cstring>

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
  if (horizontal_) {
    plane_size_ = static_cast<std::size_t>(input_columns_.size()) + 2 * kPadding;
    planes_.resize(3 * plane_size_);
  }
}

void Pipeline::push(const std::uint8_t* rgb, int first_column) {
  std::uint8_t* out = middle_.data() + static_cast<std::size_t>(pushed_) * stride_;
  ++pushed_;
  const std::uint8_t* begin = rgb + 3 * static_cast<std::size_t>(input_columns_.begin - first_column);
  if (interpolation_ == Interpolation::nearest) {
    for (std::size_t i = 0; i < nearest_x_.size(); ++i) {
      std::memcpy(out + 3 * i, begin + 3 * static_cast<std::size_t>(nearest_x_[i] - input_columns_.begin), 3);
    }
  } else if (horizontal_ && !vertical_first_) {
    resample_row(begin, out);
  } else {
    std::memcpy(out, begin, stride_);
  }
}

void Pipeline::resample_row(const std::uint8_t* rgb, std::uint8_t* out) {
  std::uint8_t* planes[3] = {planes_.data(), planes_.data() + plane_size_, planes_.data() + 2 * plane_size_};
  kernels_.split(rgb, static_cast<std::size_t>(input_columns_.size()), planes);
  kernels_.horizontal(planes, input_columns_.begin, x_weights_, out);
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
      resample_row(line_.data(), rgb);
    }
  }
}

}  // namespace vitrify::pixels
