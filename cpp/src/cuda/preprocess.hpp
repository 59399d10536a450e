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

#include "vitrify/image.hpp"

// The arithmetic runs on the GPU, and on the CPU in its test.
#ifdef __CUDACC__
#define VITRIFY_BOTH __host__ __device__
#else
#define VITRIFY_BOTH
#endif

namespace vitrify::cuda {

// The outputs of one axis in the crop, as offsets into a batch's tables.
struct Axis {
  std::int32_t first;    // into `numbers`: [outputs] first input, relative to the window
  std::int32_t count;    // into `numbers`: [outputs] how many inputs
  std::int32_t weights;  // into `numbers`: [outputs, taps]
  std::int32_t taps;
  std::int32_t outputs;  // computed ones; the rest of the crop is filled
  std::int32_t to;       // where they begin in the crop
};

// One image of a batch, of which a window is in memory.
struct Job {
  std::int64_t pixels;         // into the batch's pixels: the upright window's top left one, in bytes
  std::int64_t row_stride;     // bytes from a pixel to the one below it
  std::int64_t column_stride;  // bytes from a pixel to the one on its right
  Axis x;
  Axis y;
  bool vertical_first;
};

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
