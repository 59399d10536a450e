// BMP, without a library: plain and run-length encoded, 1 to 32 bits.
#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "limits.hpp"
#include "reader.hpp"

namespace vitrify::pixels {
namespace {

// Offsets in the file, which are the same for every header of the Windows family.
constexpr std::size_t kFileHeader = 14;
constexpr std::size_t kMasks = 54;

enum Compression : std::uint32_t { kPlain = 0, kRle8 = 1, kRle4 = 2, kBitFields = 3 };

class BmpReader final : public Reader {
 public:
  BmpReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);

  void read_rows(Range columns, Range rows, const RowSink& sink) override;

 private:
  void read_masks();
  void read_palette(std::size_t at, std::uint32_t colors, std::size_t entry);
  void unpack_runs();
  void convert(const std::uint8_t* row, std::uint8_t* rgb) const;

  [[nodiscard]] std::uint32_t integer(std::size_t at, std::size_t bytes) const {
    if (at > bytes_ || bytes > bytes_ - at) {
      throw damaged(Format::bmp, "the header is truncated");
    }
    std::uint32_t value = 0;
    for (std::size_t i = bytes; i > 0; --i) {
      value = value << 8 | data_[at + i - 1];
    }
    return value;
  }

  const std::uint8_t* data_;
  std::size_t bytes_;
  std::size_t pixels_at_ = 0;
  std::uint32_t bits_ = 0;
  std::uint32_t compression_ = kPlain;
  bool bottom_up_ = true;
  bool six_bit_green_ = false;
  std::array<std::size_t, 3> places_{2, 1, 0};  // of red, green and blue in a pixel of 24 or 32 bits
  std::array<std::array<std::uint8_t, 3>, 256> palette_{};
  std::vector<std::uint8_t> indices_;  // of a run-length encoded image, in the file's order of rows
};

BmpReader::BmpReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits)
    : data_(data), bytes_(size) {
  pixels_at_ = integer(10, 4);
  const std::uint32_t header = integer(kFileHeader, 4);
  const std::array<std::uint32_t, 7> known = {12, 40, 52, 56, 64, 108, 124};
  if (std::find(known.begin(), known.end(), header) == known.end()) {
    throw unsupported(Format::bmp, "a header of " + std::to_string(header) + " bytes");
  }
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::uint32_t colors = 0;
  if (header == 12) {
    width = integer(18, 2);
    height = integer(20, 2);
    bits_ = integer(24, 2);
  } else {
    width = integer(18, 4);
    height = integer(22, 4);
    bottom_up_ = height < 0xFF000000;  // a negative height is that of an image whose first row is its top
    height = bottom_up_ ? height : 0x100000000 - height;
    bits_ = integer(28, 2);
    compression_ = integer(30, 4);
    colors = integer(46, 4);
  }
  check_dimensions(width, height, bytes_, limits);
  size_ = {static_cast<int>(width), static_cast<int>(height)};
  const std::array<std::uint32_t, 6> depths = {1, 4, 8, 16, 24, 32};
  if (std::find(depths.begin(), depths.end(), bits_) == depths.end() || compression_ > kBitFields ||
      ((compression_ == kRle8 || compression_ == kRle4) && bits_ > 8) || (compression_ == kBitFields && bits_ < 16)) {
    throw unsupported(Format::bmp, std::to_string(bits_) + " bits, compression " + std::to_string(compression_));
  }
  std::size_t behind = kFileHeader + header;
  if (compression_ == kBitFields) {
    read_masks();
    behind = std::max(behind, kMasks + 12);
  }
  if (bits_ <= 8) {
    colors = colors == 0 ? 1U << bits_ : colors;
    const std::size_t entry = header == 12 ? 3 : 4;
    read_palette(behind, colors, entry);
    const std::size_t palette_bytes = std::size_t{colors} * entry;
    if (pixels_at_ == behind || pixels_at_ == 0) {
      pixels_at_ = behind + palette_bytes;
    }
  }
  pixels_at_ = pixels_at_ == 0 ? behind : pixels_at_;
}

void BmpReader::read_masks() {
  const std::array<std::uint32_t, 3> masks = {integer(kMasks, 4), integer(kMasks + 4, 4), integer(kMasks + 8, 4)};
  using Masks = std::array<std::uint32_t, 3>;
  if (bits_ == 16 && masks == Masks{0xF800, 0x7E0, 0x1F}) {
    six_bit_green_ = true;
  } else if (bits_ == 32 && masks == Masks{0xFF000000, 0xFF0000, 0xFF00}) {
    places_ = {3, 2, 1};
  } else if (bits_ == 32 && masks == Masks{0xFF000000, 0xFF00, 0xFF}) {
    places_ = {3, 1, 0};
  } else if (bits_ == 32 && masks == Masks{0xFF, 0xFF00, 0xFF0000}) {
    places_ = {0, 1, 2};
  } else if (!(bits_ == 16 && masks == Masks{0x7C00, 0x3E0, 0x1F}) &&
             !(bits_ >= 24 && masks == Masks{0xFF0000, 0xFF00, 0xFF}) && !(bits_ == 32 && masks == Masks{0, 0, 0})) {
    throw unsupported(Format::bmp, "this layout of the bit fields");
  }
}

void BmpReader::read_palette(std::size_t at, std::uint32_t colors, std::size_t entry) {
  if (colors > 65536) {
    throw unsupported(Format::bmp, "a palette of " + std::to_string(colors) + " colours");
  }
  for (std::size_t i = 0; i < palette_.size() && i < colors; ++i) {  // indices beyond the palette stay black
    const std::uint32_t color = integer(at + i * entry, 3);
    palette_[i] = {static_cast<std::uint8_t>(color >> 16 & 255), static_cast<std::uint8_t>(color >> 8 & 255),
                   static_cast<std::uint8_t>(color & 255)};
  }
}

// Codes and counts of [MS-WMF] 2.1.1.7; the file's positions decide where a run of literals is padded.
void BmpReader::unpack_runs() {
  const auto width = static_cast<std::size_t>(size_.width);
  const std::size_t total = width * static_cast<std::size_t>(size_.height);
  const bool nibbles = compression_ == kRle4;
  indices_.reserve(total);
  std::size_t at = pixels_at_;
  std::size_t x = 0;  // may run past the row, where the file says so
  while (indices_.size() < total && at + 2 <= bytes_) {
    const std::size_t count = data_[at];
    const std::uint8_t value = data_[at + 1];
    at += 2;
    if (count > 0) {
      const std::size_t fits = std::min({count, width - std::min(x, width), total - indices_.size()});
      for (std::size_t i = 0; i < fits; ++i) {
        indices_.push_back(!nibbles ? value : static_cast<std::uint8_t>(i % 2 == 0 ? value >> 4 : value & 15));
      }
      x += fits;
    } else if (value == 0) {  // end of the row
      const std::size_t left = (width - indices_.size() % width) % width;
      indices_.insert(indices_.end(), left, 0);
      x = 0;
    } else if (value == 1) {  // end of the image
      break;
    } else if (value == 2) {  // skip to the right and up
      if (at + 2 > bytes_) {
        break;
      }
      const std::size_t skipped = data_[at] + data_[at + 1] * width;
      at += 2;
      indices_.insert(indices_.end(), std::min(skipped, total - indices_.size()), 0);
      x = indices_.size() % width;
    } else {  // literals
      const std::size_t literals = std::min(std::size_t{value}, total - indices_.size());
      const std::size_t stored = nibbles ? (literals + 1) / 2 : literals;
      if (stored > bytes_ - std::min(at, bytes_)) {
        break;
      }
      for (std::size_t i = 0; i < literals; ++i) {
        const std::uint8_t byte = data_[at + (nibbles ? i / 2 : i)];
        indices_.push_back(!nibbles ? byte : static_cast<std::uint8_t>(i % 2 == 0 ? byte >> 4 : byte & 15));
      }
      at += stored;
      at += at % 2;
      x += value;
    }
  }
  if (indices_.size() < total) {
    throw damaged(Format::bmp, "the runs end before the image does");
  }
}

void BmpReader::convert(const std::uint8_t* row, std::uint8_t* rgb) const {
  const auto width = static_cast<std::size_t>(size_.width);
  if (bits_ == 8) {
    for (std::size_t x = 0; x < width; ++x) {
      std::memcpy(rgb + 3 * x, palette_[row[x]].data(), 3);
    }
    return;
  }
  for (std::size_t x = 0; x < width; ++x, rgb += 3) {
    if (bits_ < 8) {
      const std::size_t per_byte = 8 / bits_;
      const std::size_t shift = 8 - bits_ * (x % per_byte + 1);
      const std::size_t index = row[x / per_byte] >> shift & ((1U << bits_) - 1);
      std::memcpy(rgb, palette_[index].data(), 3);
    } else if (bits_ == 16) {
      const unsigned pixel = row[2 * x] | static_cast<unsigned>(row[2 * x + 1]) << 8;
      const unsigned green_bits = six_bit_green_ ? 63 : 31;
      rgb[0] = static_cast<std::uint8_t>((pixel >> (six_bit_green_ ? 11 : 10) & 31) * 255 / 31);
      rgb[1] = static_cast<std::uint8_t>((pixel >> 5 & green_bits) * 255 / green_bits);
      rgb[2] = static_cast<std::uint8_t>((pixel & 31) * 255 / 31);
    } else {
      const std::uint8_t* pixel = row + x * (bits_ / 8);
      rgb[0] = pixel[places_[0]];
      rgb[1] = pixel[places_[1]];
      rgb[2] = pixel[places_[2]];
    }
  }
}

void BmpReader::read_rows(Range /*columns*/, Range rows, const RowSink& sink) {
  const auto width = static_cast<std::size_t>(size_.width);
  const auto height = static_cast<std::size_t>(size_.height);
  std::size_t stride = width;
  const std::uint8_t* pixels = nullptr;
  if (compression_ == kRle8 || compression_ == kRle4) {
    unpack_runs();
    bits_ = 8;
    pixels = indices_.data();
  } else {
    stride = (width * bits_ + 31) / 32 * 4;
    const std::size_t needed = stride * (height - 1) + (width * bits_ + 7) / 8;  // the last row may lack its padding
    if (pixels_at_ > bytes_ || needed > bytes_ - pixels_at_) {
      throw damaged(Format::bmp, "the file is truncated");
    }
    pixels = data_ + pixels_at_;
  }
  std::vector<std::uint8_t> rgb(3 * width);
  for (int y = rows.begin; y < rows.end; ++y) {
    const int stored = bottom_up_ ? size_.height - 1 - y : y;
    convert(pixels + static_cast<std::size_t>(stored) * stride, rgb.data());
    sink({rgb.data()});
  }
}

}  // namespace

std::unique_ptr<Reader> open_bmp(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits) {
  return std::make_unique<BmpReader>(data, size, limits);
}

}  // namespace vitrify::pixels
