// What the host tells the kernel of a batch: the one header that both see, without the standard library's containers.
#pragma once

#ifdef __CUDACC_RTC__
// NVRTC brings no standard headers.
namespace std {
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using size_t = decltype(sizeof(0));
}  // namespace std
#else
#include <cstddef>
#include <cstdint>
#endif

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

// Two compilers lay it out, and Python's tests read it.
static_assert(sizeof(Axis) == 24 && sizeof(Job) == 80, "the layout of a job changed");

}  // namespace vitrify::cuda
