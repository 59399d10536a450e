// The inner loops of decoding a baseline JPEG: codes to samples, samples to pixels. All give libjpeg-turbo's bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vitrify::pixels {

// What the codes of one table say. An entry is what the next kLook bits begin with: a code, and its value's sign.
struct HuffmanTable {
  static constexpr int kLook = 10;
  static constexpr int kMostBits = 18;  // of code and value together; three entries go without looking for more bits
  static constexpr int kEnds = 96;      // coefficients further on: the block has no more
  static constexpr int kLong = 160;     // coefficients further on: no entry holds the code

  // From the lowest bit on: 8 bits for the bits of code and value, 8 for how many coefficients further on the value
  // lies, 8 for the bits of the code, 8 for 64 less those of the value, and 32 for what is added to these bits.
  std::uint64_t entries[std::size_t{1} << kLook];
  std::int32_t last_code[17];  // of each length, -1 where it has none
  std::int32_t offset[17];     // what makes a code of that length an index of `symbols`
  std::uint8_t symbols[256];
};

// The codes of a scan, without the zeros that are stuffed behind each 0xFF.
struct BitReader {
  const std::uint8_t* next;   // the next byte, of which some bits may be in `bits` already
  const std::uint8_t* limit;  // up to here, an MCU's bytes are at hand
  std::uint64_t bits;         // from the top
  int count;                  // of the bits that are in `bits` and not counted as ahead of `next`
};

struct JpegComponent {
  const HuffmanTable* dc;
  const HuffmanTable* ac;
  int horizontal;  // blocks of an MCU
  int vertical;
  int predicted;      // the last block's DC coefficient
  std::uint8_t* out;  // where the row of MCUs begins
  std::size_t stride;
  alignas(32) std::int16_t quantiser[64];
  alignas(32) std::int16_t largest[64];  // of a coefficient, so that no sum of its transform overflows
};

struct JpegScan {
  BitReader reader;
  JpegComponent components[3];   // in the scan's order
  int count;                     // of components
  int mcus;                      // in a row
  bool (*more)(JpegScan& scan);  // moves `reader.limit` on; false where the scan has ended
};

// One row of pixels: samples of its luma, and of the two rows of chroma that lie nearest.
struct JpegRow {
  const std::uint8_t* luma;
  const std::uint8_t* chroma[2][2];  // blue and red; the nearest row and the second one
  int horizontal;                    // luma samples for one of chroma
  int vertical;
  std::size_t samples;  // of chroma; the last one is repeated beyond its end
  std::size_t pixels;
  std::int16_t* sums[2];  // memory for `samples` and kSumsMargin more at both ends
};
inline constexpr std::size_t kSumsMargin = 32;

struct JpegKernels {
  // Copies what lies before the first marker, but for stuffed zeros, up to `room` bytes, and moves `from` on.
  std::size_t (*unstuff)(const std::uint8_t*& from, const std::uint8_t* end, std::uint8_t* to, std::size_t room);
  // Decodes a row of MCUs, and transforms those of columns [begin, end). False where anything is unusual.
  bool (*decode)(JpegScan& scan, int begin, int end);
  // To red, green and blue, of which it may write up to kRowSlack bytes more.
  void (*convert)(const JpegRow& row, std::uint8_t* const planes[3]);
};
inline constexpr std::size_t kRowSlack = 32;

#ifdef VITRIFY_X86
extern const JpegKernels avx2_jpeg_kernels;
#endif

}  // namespace vitrify::pixels
