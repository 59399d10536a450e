#include "jpeg_part.hpp"

#include <jerror.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

namespace vitrify::pixels {
namespace {

constexpr std::size_t kChunk = 1 << 16;  // bytes that are moved at a time
constexpr std::size_t kMostAtOnce = 32;  // that one step of it may write
constexpr int kMostPadding = 7;          // bits behind the last one of the scan, which are zeros
constexpr int kHeightAt = 5;             // in a frame header, from its marker on
constexpr std::array<std::uint8_t, 2> kEnd = {0xFF, JPEG_EOI};

enum Marker : std::uint8_t {
  sof0 = 0xC0,
  sof1 = 0xC1,
  dht = 0xC4,
  soi = 0xD8,
  sos = 0xDA,
  dqt = 0xDB,
  app0 = 0xE0,
  app14 = 0xEE,
  app15 = 0xEF,
  com = 0xFE
};

void ignore(j_decompress_ptr /*info*/) {}

void write_byte(std::uint8_t*& out, std::uint8_t byte) {
  *out++ = byte;
  if (byte == 0xFF) {
    *out++ = 0;
  }
}

// Whether libjpeg takes a marker for a segment that tells of the image, or that it passes over. 0xFF is none: it takes
// that for padding, and would see other segments behind it.
bool is_common(std::uint8_t marker) {
  return marker == sof0 || marker == sof1 || marker == dht || marker == dqt || marker == sos || marker == com ||
         (marker >= app0 && marker <= app15);
}

// Whether the scan has an end before the file has.
bool has_marker(const std::uint8_t* begin, const std::uint8_t* end) {
  for (const std::uint8_t* at = end - 1; at > begin; --at) {
    if (at[-1] == 0xFF && at[0] != 0 && at[0] != 0xFF) {
      return true;
    }
  }
  return false;
}

// How many bits a DC difference takes behind its code (ITU-T T.81, F.1.2.1).
int size_of(int difference) {
  int size = 0;
  while (std::abs(difference) >= 1 << size) {
    ++size;
  }
  return size;
}

}  // namespace

std::unique_ptr<JpegPart> JpegPart::make(const jpeg_decompress_struct& info, const std::uint8_t* data, std::size_t size,
                                         std::int64_t first_row) {
  JpegScan scan;
  const std::uint8_t* begin = info.src->next_input_byte;
  // libjpeg reads ahead, so that where exactly it misses the end of a truncated file depends on how its bits lie.
  if (!JpegScan::can_walk(info) || !has_marker(begin, data + size) || !scan.make(info) ||
      scan.bits_of_zeros() <= kMostPadding) {
    return nullptr;
  }
  const std::int64_t row_height = std::int64_t{DCTSIZE} * info.max_v_samp_factor;
  std::unique_ptr<JpegPart> part(new JpegPart());
  part->end_ = data + size;
  const auto position = scan.walk(begin, part->end_, (first_row + 1) * scan.mcus_per_row());
  if (!position ||
      !part->copy_header(data, begin, static_cast<std::uint32_t>(info.image_height - first_row * row_height)) ||
      !part->make_up_row(scan, *position)) {
    return nullptr;
  }
  part->moved_.resize(kChunk + kMostAtOnce);
  jpeg_source_mgr& base = part->source_.base;
  base.next_input_byte = part->head_.data();
  base.bytes_in_buffer = part->head_.size();
  base.init_source = ignore;
  base.term_source = ignore;
  base.resync_to_restart = jpeg_resync_to_restart;
  base.fill_input_buffer = [](j_decompress_ptr reader) -> boolean {
    JpegPart& self = *reinterpret_cast<Source*>(reader->src)->part;
    self.fill();
    if (reader->src->bytes_in_buffer == 0) {
      WARNMS(reader, JWRN_JPEG_EOF);
      reader->src->next_input_byte = kEnd.data();
      reader->src->bytes_in_buffer = kEnd.size();
    }
    return TRUE;
  };
  base.skip_input_data = [](j_decompress_ptr reader, long bytes) {
    jpeg_source_mgr& from = *reader->src;
    while (bytes > static_cast<long>(from.bytes_in_buffer)) {
      bytes -= static_cast<long>(from.bytes_in_buffer);
      from.fill_input_buffer(reader);
    }
    if (bytes > 0) {
      from.next_input_byte += bytes;
      from.bytes_in_buffer -= static_cast<std::size_t>(bytes);
    }
  };
  part->source_.part = part.get();
  return part;
}

// Without what libjpeg does not need to decode, such as EXIF. False where the header is not a plain row of segments.
bool JpegPart::copy_header(const std::uint8_t* data, const std::uint8_t* scan, std::uint32_t height) {
  const auto size = static_cast<std::size_t>(scan - data);
  head_ = {0xFF, soi};
  bool has_frame = false;
  std::size_t at = head_.size();
  while (size - at >= 4) {
    const std::uint8_t marker = data[at + 1];
    const std::size_t length = 2 + (std::size_t{data[at + 2]} << 8 | data[at + 3]);
    if (data[at] != 0xFF || !is_common(marker) || length < 4 || length > size - at) {
      return false;
    }
    if ((marker < app0 || marker == app0 || marker == app14) && marker != com) {
      head_.insert(head_.end(), data + at, data + at + length);
    }
    if (marker == sof0 || marker == sof1) {
      if (has_frame || length < kHeightAt + 2) {
        return false;
      }
      has_frame = true;
      std::uint8_t* place = head_.data() + head_.size() - length + kHeightAt;
      place[0] = static_cast<std::uint8_t>(height >> 8);
      place[1] = static_cast<std::uint8_t>(height);
    }
    at += length;
    if (marker == sos) {
      return has_frame && at == size;
    }
  }
  return false;
}

// False where the tables lack a code that it needs.
bool JpegPart::make_up_row(const JpegScan& scan, const ScanPosition& position) {
  // For each component: the largest size of a difference that has a code, of those up to each.
  using Sizes = std::array<int, 16>;
  const std::vector<JpegScan::Component>& components = scan.components();
  std::vector<Sizes> sizes(components.size());
  std::size_t blocks = 0;
  for (std::size_t c = 0; c < components.size(); ++c) {
    const JpegScan::Component& component = components[c];
    if (component.dc->length(0) == 0 || component.ac->length(0) == 0) {
      return false;
    }
    for (std::size_t s = 1; s < sizes[c].size(); ++s) {
      sizes[c][s] = component.dc->length(s) != 0 ? static_cast<int>(s) : sizes[c][s - 1];
    }
    blocks += static_cast<std::size_t>(component.blocks);
  }
  // A block takes two codes and the bits of a difference, 47 bits at most; and each byte may be followed by a zero.
  const std::size_t header = head_.size();
  head_.resize(header + 12 * blocks * static_cast<std::size_t>(scan.mcus_per_row()) + kMostAtOnce);
  std::uint8_t* out = head_.data() + header;
  std::array<int, MAX_COMPS_IN_SCAN> left = position.dc;
  for (std::int64_t mcu = 0; mcu < scan.mcus_per_row(); ++mcu) {
    for (std::size_t c = 0; c < components.size(); ++c) {
      const JpegScan::Component& component = components[c];
      for (int block = 0; block < component.blocks; ++block) {
        const int wanted = size_of(left[c]);
        const int size = sizes[c][static_cast<std::size_t>(wanted)];
        const int largest = (1 << size) - 1;
        const int difference = std::clamp(left[c], -largest, largest);
        left[c] -= difference;
        put(out, component.dc->code(static_cast<std::size_t>(size)),
            component.dc->length(static_cast<std::size_t>(size)));
        const int bits = difference < 0 ? difference + largest : difference;
        put(out, static_cast<std::uint64_t>(bits), size);
        put(out, component.ac->code(0), component.ac->length(0));
      }
    }
  }
  if (std::any_of(left.begin(), left.end(), [](int rest) { return rest != 0; })) {
    return false;
  }
  std::uint64_t bits = position.bits;
  for (int count = position.count; count > 0; count -= 8, bits <<= 8) {
    const int some = std::min(count, 8);
    put(out, bits >> (64 - some), some);
  }
  head_.resize(static_cast<std::size_t>(out - head_.data()));
  next_ = position.next;
  return true;
}

// Appends the lowest `count` bits, up to 32 of them.
void JpegPart::put(std::uint8_t*& out, std::uint64_t bits, int count) {
  pending_ = pending_ << count | bits;
  pending_count_ += count;
  while (pending_count_ >= 8) {
    pending_count_ -= 8;
    write_byte(out, static_cast<std::uint8_t>(pending_ >> pending_count_));
  }
  pending_ &= (std::uint64_t{1} << pending_count_) - 1;
}

// Moves more of the scan's bytes. What follows the scan is handed on where it lies.
void JpegPart::fill() {
  jpeg_source_mgr& base = source_.base;
  base.next_input_byte = moved_.data();
  std::uint8_t* out = moved_.data();
  const std::uint8_t* const full = out + kChunk;
  while (!scan_ended_ && out < full) {
    if (end_ - next_ >= 8) {
      const std::uint64_t bytes = big_endian(next_);
      const std::uint64_t moved = ((pending_ << 1) << (63 - pending_count_)) | bytes >> pending_count_;
      if (!has_ff(bytes) && !has_ff(moved)) {
        for (int i = 0; i < 8; ++i) {
          out[i] = static_cast<std::uint8_t>(moved >> (56 - 8 * i));
        }
        out += 8;
        next_ += 8;
        pending_ = bytes & ((std::uint64_t{1} << pending_count_) - 1);
        continue;
      }
    }
    // libjpeg takes any number of 0xFF for one.
    const std::uint8_t* last = next_;
    while (last < end_ && *last == 0xFF) {
      ++last;
    }
    if (last == end_ || (last != next_ && *last != 0)) {
      scan_ended_ = true;
      put(out, 0, (8 - pending_count_) % 8);  // as libjpeg goes on where bits are missing
    } else {
      put(out, last == next_ ? *last : 0xFF, 8);
      next_ = last + 1;
    }
  }
  base.bytes_in_buffer = static_cast<std::size_t>(out - moved_.data());
  if (base.bytes_in_buffer == 0) {
    base.next_input_byte = next_;
    base.bytes_in_buffer = static_cast<std::size_t>(end_ - next_);
    next_ = end_;
  }
}

}  // namespace vitrify::pixels
