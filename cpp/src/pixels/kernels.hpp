// The inner loops of the resize, once for each instruction set. All give the same bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "coefficients.hpp"
#include "jpeg_kernels.hpp"

namespace vitrify::pixels {

// Readable bytes that every plane handed to a kernel has behind its end.
inline constexpr std::size_t kPadding = 64;

// How the weights of the horizontal pass are split into digits that narrow multiplications take without losing a bit:
//   words: weight = low + high * 2^11                       16-bit digits, low in [-1024, 1023]
//   bytes: weight = digit0 + digit1 * 2^8 + digit2 * 2^16   8-bit digits, the lower two in [-128, 127]
enum class WeightForm : std::uint8_t { whole, words, gathered_words, bytes };

inline constexpr int kGatherReach = 128;  // inputs that a permutation of two AVX-512 registers chooses from
inline constexpr int kShuffleReach = 16;  // inputs that a shuffle within half an AVX2 register chooses from

struct HorizontalWeights {
  const Coefficients* axis = nullptr;

  // One output after the other, each with its taps rounded up to a full vector; the rest are zeros.
  std::size_t stride = 0;
  std::vector<std::int16_t> low;    // [outputs, stride]
  std::vector<std::int16_t> high;   // [outputs, stride]
  std::vector<std::int8_t> digits;  // [outputs, 3, stride]

  // Or, where neighbouring outputs read inputs that are near each other, `block` outputs at once; 0 where not.
  //
  // Bytes: a permutation of the 128 inputs from the block's first on gathers 64 taps for all of its outputs:
  //   byte 4 * (j * width + g % width) + t of step g / width of `index` is the place, in those inputs, of tap 4 * g + t
  //   of output j, with width = 16 / block;                    index [blocks, steps, 64], digits [blocks, steps, 3, 64]
  //
  // Words: each half of the register holds the taps of half of the block. A shuffle spreads `16 / block` taps of each
  // output from the 16 inputs that begin at the half's first; the next step takes those as many inputs further on:
  //   word j * 16 / block + t is tap 16 / block * step + t of output j;       index [blocks, 32], low [blocks, steps,
  //   16]
  std::size_t block = 0;
  std::size_t steps = 0;
  std::vector<std::uint8_t> index;
};

[[nodiscard]] HorizontalWeights pack_weights(const Coefficients& axis, WeightForm form);

// What normalising makes of each of a channel's 256 values: (value / 255 - mean) / std, rounded to float32 after every
// operation, as PyTorch does it.
struct Normalisation {
  std::array<float, 256> table;
  float mean;
  float std;
  float inverse_std;
  // Whether `normalise` finds every value of the table by itself; it looks them up where not.
  bool computable = false;
};

struct Kernels {
  const char* name;
  WeightForm form;
  bool (*supported)();
  // Interleaved RGB of `pixels` to three planes.
  void (*split)(const std::uint8_t* rgb, std::size_t pixels, std::uint8_t* const planes[3]);
  // And back.
  void (*join)(const std::uint8_t* const planes[3], std::size_t pixels, std::uint8_t* rgb);
  // Three planes, whose first pixel is input `origin`, to interleaved RGB of all outputs.
  void (*horizontal)(const std::uint8_t* const planes[3], int origin, const HorizontalWeights& weights,
                     std::uint8_t* rgb);
  // `count` rows, `stride` bytes apart, to one row of `bytes` bytes.
  void (*vertical)(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, int count,
                   std::size_t bytes, std::uint8_t* out);
  // A plane of pixels to normalised ones.
  void (*normalise)(const std::uint8_t* plane, std::size_t pixels, const Normalisation& normalisation, float* out);
  const JpegKernels* jpeg;  // null where libjpeg decodes all of them
};

// The best that this processor runs, unless a test chose another.
[[nodiscard]] const Kernels& kernels() noexcept;

extern const Kernels scalar_kernels;
#ifdef VITRIFY_X86  // CMake says which files it compiles; everything else runs the scalar ones
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif
#ifdef VITRIFY_NEON
extern const Kernels neon_kernels;
#endif

[[nodiscard]] Normalisation make_normalisation(float mean, float std, const Kernels& kernels);

// A fixed-point sum to a pixel: Pillow's clip8.
inline std::uint8_t to_pixel(std::int32_t sum) {
  const std::int32_t value = sum >> kPrecisionBits;
  return static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

inline constexpr std::int32_t kHalf = 1 << (kPrecisionBits - 1);

}  // namespace vitrify::pixels
