// Pixels on the GPU: resize, crop and normalise with the CPU core's arithmetic, so that equal pixels make equal
// tensors.
//
// One launch takes a batch of images of any sizes. Each axis is a table of fixed-point weights, made on the host by the
// same code that the CPU core uses; an axis that keeps its size, and nearest, are tables of one weight of 1. Turning an
// image upright is a matter of strides.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "job.hpp"
#include "vitrify/image.hpp"

namespace vitrify::cuda {

// The part of an image, as it is stored, that its crop is made of, and where it has to lie: [height, width, 3] bytes.
struct Window {
  std::size_t at;  // into the batch's pixels
  int column;      // of the stored image, the window's first
  int row;
  Size size;
};

// A batch's jobs and tables, on the host; the tables are copied to the GPU as they are.
struct Plan {
  std::vector<Job> jobs;
  std::vector<std::int32_t> numbers;
  std::size_t pixel_bytes = 0;  // of all windows, one behind the other, as they were added

  void clear();
  // Adds an image of that size as it is stored, which EXIF's `orientation` turns upright. Returns the rows and columns
  // that the resize reads, or, where the whole of it will be in memory, all. Throws ImageError for a size that cannot
  // be resized.
  Window add(Size stored, int orientation, const Preprocess& spec, bool whole = false);
};

// What every pixel becomes: [3][256] floats, by the CPU core's operations.
using Table = std::array<std::array<float, 256>, 3>;
[[nodiscard]] Table normalised(const Preprocess& spec);

}  // namespace vitrify::cuda
