// Walks a baseline JPEG's Huffman codes without decoding what they say, several times as fast as libjpeg decodes them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <vector>

// libjpeg's header needs <cstdio> before it.
#include <jpeglib.h>

namespace vitrify::pixels {

// Eight bytes as one number, the first one highest.
inline std::uint64_t big_endian(const std::uint8_t* bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < 8; ++i) {
    value = value << 8 | bytes[i];
  }
  return value;
}

// Whether one of eight bytes is 0xFF: the first byte of a marker, or of a stuffed 0xFF.
inline bool has_ff(std::uint64_t bytes) {
  constexpr std::uint64_t ones = 0x0101010101010101U;
  return ((~bytes - ones) & bytes & (ones << 7)) != 0;
}

// The codes of one table of a JPEG's header.
class HuffmanTable {
 public:
  // False where there is no such table, or its codes do not fit in their lengths.
  [[nodiscard]] bool make(const JHUFF_TBL* table);
  // What steps over AC coefficients; not for a DC table.
  void make_steps();

  [[nodiscard]] std::uint32_t code(std::size_t symbol) const { return codes_[symbol]; }
  [[nodiscard]] int length(std::size_t symbol) const { return lengths_[symbol]; }  // 0 where it has no code

  // The symbol at the top of 64 bits, and the length of its code; -1 where there is none.
  struct Symbol {
    int value;
    int length;
  };
  [[nodiscard]] Symbol find(std::uint64_t bits) const {
    const std::uint16_t entry = single_[bits >> (64 - kLook)];
    return entry != 0 ? Symbol{entry & 0xFF, entry >> 8} : find_long(bits);
  }

  // Every whole code among the first bits, with the bits of their coefficients' values, up to the end of the block.
  class Step {
   public:
    Step() = default;
    Step(int bits, int advance, bool ends)
        : packed_(static_cast<std::uint16_t>(bits | advance << 5 | (ends ? 1 << 12 : 0))) {}
    [[nodiscard]] int bits() const { return packed_ & 31; }  // of codes and values; 0 where the first code is longer
    [[nodiscard]] int advance() const { return packed_ >> 5 & 127; }  // coefficients, the block's end counted as one
    [[nodiscard]] bool ends() const { return packed_ >> 12 != 0; }    // the block

   private:
    std::uint16_t packed_ = 0;
  };
  [[nodiscard]] Step step(std::uint64_t bits) const { return steps_[bits >> (64 - kStepBits)]; }

 private:
  static constexpr int kLook = 9;
  static constexpr int kStepBits = 12;
  [[nodiscard]] Symbol find_long(std::uint64_t bits) const;

  std::array<std::uint32_t, 256> codes_{};
  std::array<std::uint8_t, 256> lengths_{};
  std::array<std::uint16_t, std::size_t{1} << kLook> single_{};
  std::array<std::int32_t, 17> last_code_{};  // of each length, -1 where it has none
  std::array<std::int32_t, 17> offset_{};     // what makes a code of that length an index of `values_`
  std::array<std::uint8_t, 256> values_{};
  std::vector<Step> steps_;
};

// Between two MCUs.
struct ScanPosition {
  const std::uint8_t* next = nullptr;          // the next byte
  std::uint64_t bits = 0;                      // those before it that no code has used yet, from the top
  int count = 0;                               // of these bits
  std::array<int, MAX_COMPS_IN_SCAN> dc = {};  // what the next DC differences are added to, by place in the scan
};

// The one scan of a baseline JPEG, all components interleaved, without restart markers.
class JpegScan {
 public:
  // Whether a header that was read up to its scan tells of such a JPEG, with the codes that `JpegPart` needs.
  [[nodiscard]] static bool can_walk(const jpeg_decompress_struct& info);

  // For such a header. False where its tables are wrong.
  [[nodiscard]] bool make(const jpeg_decompress_struct& info);

  // The position behind `mcus` MCUs, from the first byte of the scan. None where anything is not as it should be: a
  // code that there is not, coefficients beyond a block's last, a marker, or the end.
  [[nodiscard]] std::optional<ScanPosition> walk(const std::uint8_t* begin, const std::uint8_t* end,
                                                 std::int64_t mcus) const;

  // Bits of the MCU that zeros make: what libjpeg decodes from padding, without a warning, if there are so many.
  [[nodiscard]] int bits_of_zeros() const;

  struct Component {
    const HuffmanTable* dc = nullptr;
    const HuffmanTable* ac = nullptr;
    int blocks = 1;  // in an MCU
  };
  [[nodiscard]] const std::vector<Component>& components() const { return components_; }
  [[nodiscard]] std::int64_t mcus_per_row() const { return mcus_per_row_; }

 private:
  std::array<HuffmanTable, NUM_HUFF_TBLS> dc_tables_;
  std::array<HuffmanTable, NUM_HUFF_TBLS> ac_tables_;
  std::vector<Component> components_;
  std::int64_t mcus_per_row_ = 0;
};

}  // namespace vitrify::pixels
