#include "jpeg_scan.hpp"

#include <algorithm>
#include <cstdlib>

namespace vitrify::pixels {
namespace {

constexpr int kCoefficients = DCTSIZE2;
constexpr int kLongestCode = 16;
// Of 8-bit samples it is 2047 at most; sums that leave that are left to libjpeg.
constexpr int kLargestDc = 2047;

// Bits of the scan, of which the unused ones are at the top of `bits`.
class BitReader {
 public:
  BitReader(const std::uint8_t* begin, const std::uint8_t* end) : next_(begin), end_(end) {}

  [[nodiscard]] std::uint64_t bits() const { return bits_; }
  // Fewer than none where more were used than there are.
  [[nodiscard]] int count() const { return count_; }

  void use(int bits) {
    bits_ <<= bits;
    count_ -= bits;
  }

  // Makes 56 bits available, enough for two codes with the bits of their values, or two steps; zeros behind the last
  // bit. It is always done, as a branch that depends on the data would cost more.
  void fill() {
    if (end_ - next_ >= 8 && count_ >= 0) {
      const std::uint64_t more = big_endian(next_);
      if (!has_ff(more)) {
        // Whole bytes are counted, and what is known of the next one is written once more by the next call.
        const int bytes = (63 - count_) >> 3;
        bits_ |= more >> count_;
        next_ += bytes;
        count_ += 8 * bytes;
        return;
      }
    }
    fill_by_bytes();
  }

  [[nodiscard]] ScanPosition position() const {
    ScanPosition position;
    position.next = next_;
    position.count = count_;
    position.bits = count_ > 0 ? bits_ & ~std::uint64_t{0} << (64 - count_) : 0;
    return position;
  }

 private:
  void fill_by_bytes() {
    while (count_ >= 0 && count_ <= 56 && next_ < end_) {
      const std::uint8_t byte = *next_;
      if (byte == 0xFF && (end_ - next_ < 2 || next_[1] != 0)) {
        return;  // a marker, or something like one
      }
      bits_ |= std::uint64_t{byte} << (56 - count_);
      count_ += 8;
      next_ += byte == 0xFF ? 2 : 1;
    }
  }

  const std::uint8_t* next_;
  const std::uint8_t* end_;
  std::uint64_t bits_ = 0;
  int count_ = 0;
};

// The value of a coefficient's `size` bits, at the top of `bits` (ITU-T T.81, F.2.2.1: EXTEND).
int extended(std::uint64_t bits, int size) {
  if (size == 0) {
    return 0;
  }
  const auto value = static_cast<int>(bits >> (64 - size));
  return value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
}

// Passes over a block's DC code; false where there is none.
bool pass_dc(BitReader& reader, const HuffmanTable& table, int& dc) {
  reader.fill();
  const HuffmanTable::Symbol symbol = table.find(reader.bits());
  if (symbol.value < 0 || symbol.value > 15) {
    return false;
  }
  reader.use(symbol.length);
  dc += extended(reader.bits(), symbol.value);
  reader.use(symbol.value);
  return std::abs(dc) <= kLargestDc;
}

// Passes over a block's AC codes; false where one of them cannot be.
bool pass_ac(BitReader& reader, const HuffmanTable& table) {
  int next = 1;  // the next coefficient
  while (next < kCoefficients) {
    reader.fill();
    HuffmanTable::Step step = table.step(reader.bits());
    if (step.bits() != 0 && next + step.advance() <= kCoefficients) {
      reader.use(step.bits());
      next += step.advance();
      if (step.ends()) {
        return true;
      }
      step = table.step(reader.bits());
      if (step.bits() != 0 && next + step.advance() <= kCoefficients) {
        reader.use(step.bits());
        next += step.advance();
        if (step.ends()) {
          return true;
        }
      }
      continue;
    }
    const HuffmanTable::Symbol symbol = table.find(reader.bits());
    if (symbol.value < 0) {
      return false;
    }
    const int run = symbol.value >> 4;
    const int size = symbol.value & 15;
    reader.use(symbol.length);
    reader.use(size);
    if (size == 0 && run != 15) {
      return true;
    }
    next += run + 1;
  }
  return next == kCoefficients;
}

}  // namespace

bool HuffmanTable::make(const JHUFF_TBL* table) {
  if (table == nullptr) {
    return false;
  }
  std::uint32_t code = 0;
  std::size_t index = 0;
  for (int length = 1; length <= kLongestCode; ++length, code <<= 1) {
    const auto l = static_cast<std::size_t>(length);
    const std::size_t count = table->bits[l];
    if (index + count > values_.size() || code + count > (std::uint32_t{1} << length)) {
      return false;
    }
    offset_[l] = static_cast<std::int32_t>(index) - static_cast<std::int32_t>(code);
    for (std::size_t i = 0; i < count; ++i, ++index, ++code) {
      const std::uint8_t symbol = table->huffval[index];
      values_[index] = symbol;
      codes_[symbol] = code;
      lengths_[symbol] = static_cast<std::uint8_t>(length);
      if (length <= kLook) {
        const std::size_t first = std::size_t{code} << (kLook - length);
        std::fill_n(single_.begin() + static_cast<std::ptrdiff_t>(first), std::size_t{1} << (kLook - length),
                    static_cast<std::uint16_t>(length << 8 | symbol));
      }
    }
    last_code_[l] = count > 0 ? static_cast<std::int32_t>(code) - 1 : -1;
  }
  return true;
}

HuffmanTable::Symbol HuffmanTable::find_long(std::uint64_t bits) const {
  for (int length = 1; length <= kLongestCode; ++length) {
    const auto l = static_cast<std::size_t>(length);
    const auto code = static_cast<std::int32_t>(bits >> (64 - length));
    if (code <= last_code_[l]) {
      return {values_[static_cast<std::size_t>(code + offset_[l])], length};
    }
  }
  return {-1, 0};
}

void HuffmanTable::make_steps() {
  steps_.resize(std::size_t{1} << kStepBits);
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    int used = 0;
    int advance = 0;
    bool ends = false;
    while (used < kStepBits && !ends) {
      const Symbol symbol = find(static_cast<std::uint64_t>(i) << (64 - kStepBits + used));
      const int run = symbol.value >> 4;
      const int size = symbol.value & 15;
      if (symbol.value < 0 || used + symbol.length > kStepBits || advance + run + 1 > kCoefficients) {
        break;
      }
      used += symbol.length + size;
      ends = size == 0 && run != 15;
      advance += ends ? 1 : run + 1;
    }
    steps_[i] = Step(used, advance, ends);
  }
}

bool JpegScan::can_walk(const jpeg_decompress_struct& info) {
  const bool one_scan = info.comps_in_scan == info.num_components && info.Ss == 0 && info.Se == DCTSIZE2 - 1;
  if (!one_scan || info.progressive_mode || info.arith_code || info.restart_interval != 0 || info.data_precision != 8) {
    return false;
  }
  const jpeg_component_info& first = *info.cur_comp_info[0];
  return info.comps_in_scan > 1 || (first.h_samp_factor == 1 && first.v_samp_factor == 1);
}

bool JpegScan::make(const jpeg_decompress_struct& info) {
  std::array<bool, NUM_HUFF_TBLS> dc_made{};
  std::array<bool, NUM_HUFF_TBLS> ac_made{};
  int blocks = 0;
  for (int i = 0; i < info.comps_in_scan; ++i) {
    const jpeg_component_info& component = *info.cur_comp_info[i];
    const auto dc = static_cast<std::size_t>(component.dc_tbl_no);
    const auto ac = static_cast<std::size_t>(component.ac_tbl_no);
    if (dc >= NUM_HUFF_TBLS || ac >= NUM_HUFF_TBLS ||
        (!dc_made[dc] && !dc_tables_[dc].make(info.dc_huff_tbl_ptrs[dc]))) {
      return false;
    }
    dc_made[dc] = true;
    if (!ac_made[ac]) {
      if (!ac_tables_[ac].make(info.ac_huff_tbl_ptrs[ac])) {
        return false;
      }
      ac_tables_[ac].make_steps();
      ac_made[ac] = true;
    }
    components_.push_back({&dc_tables_[dc], &ac_tables_[ac], component.h_samp_factor * component.v_samp_factor});
    blocks += components_.back().blocks;
  }
  const std::int64_t width = std::int64_t{DCTSIZE} * info.max_h_samp_factor;
  mcus_per_row_ = (info.image_width + width - 1) / width;
  return blocks <= D_MAX_BLOCKS_IN_MCU;
}

int JpegScan::bits_of_zeros() const {
  int bits = 0;
  for (const Component& component : components_) {
    const HuffmanTable::Symbol dc = component.dc->find(0);
    const HuffmanTable::Symbol ac = component.ac->find(0);
    if (dc.value < 0 || ac.value < 0) {
      return kLongestCode;  // libjpeg warns of such a code
    }
    const int run = ac.value >> 4;
    const int size = ac.value & 15;
    const bool ends = size == 0 && run != 15;
    const int codes = ends ? 1 : (kCoefficients - 1 + run) / (run + 1);
    bits += component.blocks * (dc.length + dc.value + codes * (ac.length + size));
  }
  return bits;
}

std::optional<ScanPosition> JpegScan::walk(const std::uint8_t* begin, const std::uint8_t* end,
                                           std::int64_t mcus) const {
  BitReader reader(begin, end);
  std::array<int, MAX_COMPS_IN_SCAN> dc{};
  for (std::int64_t mcu = 0; mcu < mcus; ++mcu) {
    for (std::size_t c = 0; c < components_.size(); ++c) {
      const Component& component = components_[c];
      for (int block = 0; block < component.blocks; ++block) {
        if (!pass_dc(reader, *component.dc, dc[c]) || !pass_ac(reader, *component.ac)) {
          return std::nullopt;
        }
      }
    }
    if (reader.count() < 0) {
      return std::nullopt;
    }
  }
  ScanPosition position = reader.position();
  position.dc = dc;
  return position;
}

}  // namespace vitrify::pixels
