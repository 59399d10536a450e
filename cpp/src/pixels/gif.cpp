// The first frame of a GIF, without a library. The pixels of damaged and odd files are Pillow's too: what lies outside
// the frame, which colours count, and what is passed over in silence are its choices, not the specification's.
#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <vector>

#include "limits.hpp"
#include "orientation.hpp"
#include "reader.hpp"

namespace vitrify::pixels {
namespace {

constexpr std::size_t kScreenHeader = 13;
constexpr unsigned kMaxCodeBits = 12;
constexpr unsigned kTable = 1U << kMaxCodeBits;  // strings that codes can stand for

enum Block : std::uint8_t { kExtension = 0x21, kImage = 0x2C, kTrailer = 0x3B };
enum Extension : std::uint8_t { kGraphicControl = 0xF9, kComment = 0xFE, kApplication = 0xFF };

// The codes of a compressed frame, whose bytes come in blocks of up to 255.
class Codes {
 public:
  Codes(const std::uint8_t* data, std::size_t size, std::size_t begin)
      : data_(data), size_(size), at_(begin), loaded_(begin) {
    load();
  }

  unsigned next(unsigned bits) {
    while (count_ < bits) {
      if (left_ == 0) {
        open_block();
      }
      for (; left_ > 0 && count_ <= 24; --left_, count_ += 8) {
        buffer_ |= std::uint32_t{data_[at_++]} << count_;
      }
    }
    const unsigned code = buffer_ & ((1U << bits) - 1);
    buffer_ >>= bits;
    count_ -= bits;
    return code;
  }

  // Pillow reads in steps of 64 KiB. An end code before the last pixel makes it ask for the next step and go on with
  // the codes behind, whatever they are; only without a next step is the file truncated.
  void load() {
    constexpr std::size_t step = 65536;
    if (loaded_ >= size_) {
      throw damaged(Format::gif, "the pixels end before the frame does");
    }
    loaded_ += std::min(step, size_ - loaded_);
  }

 private:
  // The next block, which must be whole. Empty ones, which should end the frame, are passed over.
  void open_block() {
    while (at_ >= loaded_ || data_[at_] > loaded_ - at_ - 1) {
      load();
    }
    left_ = data_[at_++];
  }

  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_;
  std::size_t loaded_;
  std::size_t left_ = 0;  // bytes of the block
  std::uint32_t buffer_ = 0;
  unsigned count_ = 0;  // bits in the buffer
};

class GifReader final : public Reader {
 public:
  GifReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);

  void read_rows(Range columns, Range rows, const RowSink& sink) override;

 private:
  void skip_extension();
  void read_palette(std::uint8_t flags);
  [[nodiscard]] std::vector<std::uint8_t> unpack() const;
  [[nodiscard]] std::size_t stored_row(std::size_t y) const;

  std::string_view take(std::size_t bytes) {
    if (bytes > bytes_ - at_) {
      throw damaged(Format::gif, "the file is truncated");
    }
    at_ += bytes;
    return view_of(data_ + at_ - bytes, bytes);
  }
  std::uint8_t byte() { return static_cast<std::uint8_t>(take(1)[0]); }
  int word() {
    const int low = byte();
    return low | byte() << 8;
  }
  std::string_view block() { return take(byte()); }
  void skip_blocks() {
    while (!block().empty()) {
    }
  }

  const std::uint8_t* data_;
  std::size_t bytes_;
  std::size_t at_ = 0;
  Size frame_;
  int left_ = 0;
  int top_ = 0;
  bool interlaced_ = false;
  unsigned code_bits_ = 0;
  std::uint8_t outside_ = 0;  // the index of pixels that the frame leaves out
  std::array<std::array<std::uint8_t, 3>, 256> palette_{};
};

GifReader::GifReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits)
    : data_(data), bytes_(size) {
  const std::string_view header = take(kScreenHeader);
  at_ = 6;  // behind the version
  const Size screen{word(), word()};
  at_ = kScreenHeader;
  for (std::size_t i = 0; i < palette_.size(); ++i) {
    palette_[i].fill(static_cast<std::uint8_t>(i));  // without a palette, indices are shades of grey
  }
  read_palette(static_cast<std::uint8_t>(header[10]));
  for (std::uint8_t kind = byte(); kind != kImage; kind = byte()) {
    if (kind == kTrailer) {
      throw damaged(Format::gif, "there is no image in it");
    }
    if (kind == kExtension) {
      skip_extension();
    }
  }
  left_ = word();
  top_ = word();
  frame_.width = word();
  frame_.height = word();
  size_ = {std::max(screen.width, left_ + frame_.width), std::max(screen.height, top_ + frame_.height)};
  check_dimensions(size_.width, size_.height, bytes_, limits);
  check_dimensions(frame_.width, frame_.height, bytes_, limits);
  const std::uint8_t flags = byte();
  interlaced_ = (flags & 0x40) != 0;
  read_palette(flags);
  code_bits_ = byte();
  if (code_bits_ > kMaxCodeBits) {
    throw damaged(Format::gif, "codes of more than 12 bits");
  }
}

// A palette whose colours are their own indices says nothing, neither over shades of grey nor over the screen's
// palette.
void GifReader::read_palette(std::uint8_t flags) {
  if ((flags & 0x80) == 0) {
    return;
  }
  const std::string_view colors = take(std::size_t{3} << ((flags & 7) + 1));
  bool needed = false;
  for (std::size_t i = 0; i < colors.size(); ++i) {
    needed = needed || static_cast<std::uint8_t>(colors[i]) != i / 3;
  }
  if (needed) {
    palette_ = {};  // indices beyond it are black
    std::memcpy(palette_.data(), colors.data(), colors.size());
  }
}

void GifReader::skip_extension() {
  const std::uint8_t label = byte();
  const std::string_view first = block();
  if (label == kGraphicControl && !first.empty()) {
    const bool transparent = (first[0] & 1) != 0;
    if (first.size() < (transparent ? 4 : 3)) {
      throw damaged(Format::gif, "a graphic control extension is too short");
    }
    outside_ = transparent ? static_cast<std::uint8_t>(first[3]) : outside_;
  } else if (label == kApplication && starts_with(first, "NETSCAPE2.0")) {
    block();
  } else if (label == kComment && first.empty()) {
    return;
  }
  skip_blocks();  // even behind an empty block
}

// Indices of the frame in the file's order of rows. A string is the one before and one pixel more, and the pixels of
// that one are always followed by this pixel: strings are places in what was already unpacked.
std::vector<std::uint8_t> GifReader::unpack() const {
  struct String {
    std::size_t begin;
    std::size_t length;
  };
  std::array<String, kTable> strings;
  std::vector<std::uint8_t> indices(static_cast<std::size_t>(frame_.width) * static_cast<std::size_t>(frame_.height));
  const unsigned clear = 1U << code_bits_;
  const unsigned end = clear + 1;
  Codes codes(data_, bytes_, at_);
  String previous{0, 0};  // none behind a clear code
  unsigned next = clear + 2;
  unsigned bits = code_bits_ + 1;
  for (std::size_t at = 0; at < indices.size();) {
    const unsigned code = codes.next(bits);
    if (code == clear) {
      previous.length = 0;
      next = clear + 2;
      bits = code_bits_ + 1;
      continue;
    }
    if (code == end) {
      codes.load();
      continue;
    }
    String string{at, 1};
    if (code < clear) {
      indices[at] = static_cast<std::uint8_t>(code);
    } else {
      // The string that this code is about to define is allowed. With 12 bits it has no place in the table, and cannot
      // be the start of another.
      const bool defining = code == next;
      if (previous.length == 0 || code > next || (code >= kTable && previous.length > 1)) {
        throw damaged(Format::gif, "a code that nothing defines");
      }
      const String known = defining ? String{previous.begin, previous.length + 1} : strings[code];
      string.length = std::min(known.length, indices.size() - at);
      std::uint8_t* to = indices.data() + at;
      const std::uint8_t* from = indices.data() + known.begin;
      for (std::size_t i = 0; i < string.length; ++i) {  // forwards: the last pixel may be the first one written
        to[i] = from[i];
      }
    }
    if (previous.length > 0 && next < kTable) {
      strings[next] = {previous.begin, previous.length + 1};
      bits += next + 1 == 1U << bits && bits < kMaxCodeBits ? 1 : 0;
      ++next;
    }
    previous = string;
    at += string.length;
  }
  return indices;
}

std::size_t GifReader::stored_row(std::size_t y) const {
  const auto height = static_cast<std::size_t>(frame_.height);
  if (!interlaced_) {
    return y;
  }
  // Every eighth row, those in the middle between them, and so on.
  if (y % 2 == 1) {
    return (height + 1) / 2 + y / 2;
  }
  if (y % 4 == 2) {
    return (height + 3) / 4 + y / 4;
  }
  return y % 8 == 4 ? (height + 7) / 8 + y / 8 : y / 8;
}

void GifReader::read_rows(Range /*columns*/, Range rows, const RowSink& sink) {
  const std::vector<std::uint8_t> indices = unpack();
  const auto width = static_cast<std::size_t>(frame_.width);
  std::vector<std::uint8_t> blank(3 * static_cast<std::size_t>(size_.width));
  for (std::size_t i = 0; i < blank.size(); ++i) {
    blank[i] = palette_[outside_][i % 3];
  }
  std::vector<std::uint8_t> line = blank;
  for (int y = rows.begin; y < rows.end; ++y) {
    if (y < top_ || y >= top_ + frame_.height) {
      sink({blank.data()});
      continue;
    }
    const std::uint8_t* row = indices.data() + width * stored_row(static_cast<std::size_t>(y - top_));
    std::uint8_t* rgb = line.data() + 3 * static_cast<std::size_t>(left_);
    for (std::size_t x = 0; x < width; ++x) {
      std::memcpy(rgb + 3 * x, palette_[row[x]].data(), 3);
    }
    sink({line.data()});
  }
}

}  // namespace

std::unique_ptr<Reader> open_gif(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits) {
  return std::make_unique<GifReader>(data, size, limits);
}

}  // namespace vitrify::pixels
