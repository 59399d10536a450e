#include "orientation.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

namespace vitrify::pixels {
namespace {

constexpr std::uint32_t kOrientationTag = 0x0112;  // EXIF 2.32, 4.6.4 A

// Bounds-checked integers of either byte order.
class TiffReader {
 public:
  TiffReader(std::string_view data, bool big_endian) : data_(data), big_endian_(big_endian) {}

  [[nodiscard]] bool read(std::size_t at, std::size_t bytes, std::uint32_t& value) const {
    if (at > data_.size() || bytes > data_.size() - at) {
      return false;
    }
    value = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
      const auto byte = static_cast<std::uint8_t>(data_[at + (big_endian_ ? i : bytes - 1 - i)]);
      value = value << 8 | byte;
    }
    return true;
  }

 private:
  std::string_view data_;
  bool big_endian_;
};

// Bytes of a value of each TIFF type; 0 is no type.
constexpr std::array<std::size_t, 14> kTypeBytes = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4};

// SHORT, LONG, SBYTE, SSHORT, SLONG or IFD. Pillow reads unsigned bytes as text.
bool is_integer(std::uint32_t type) {
  return type == 3 || type == 4 || type == 6 || type == 8 || type == 9 || type == 13;
}

// What the first directory says; nothing where it does not say. Values beyond 1 to 8 are said, and turn nothing.
std::optional<std::uint32_t> exif_orientation(std::string_view exif) {
  for (int i = 0; i < 2 && starts_with(exif, kExifHeader); ++i) {  // some writers put the header twice
    exif.remove_prefix(kExifHeader.size());
  }
  if (exif.empty()) {
    return std::nullopt;
  }
  constexpr std::array<std::string_view, 4> headers = {
      std::string_view("II\x2A\0", 4), {"MM\0\x2A", 4}, {"II\0\x2A", 4}, {"MM\x2A\0", 4}};
  if (exif.size() < 8 || std::find(headers.begin(), headers.end(), exif.substr(0, 4)) == headers.end()) {
    return kUpright;  // Pillow gives up here, XMP or not
  }
  const TiffReader reader(exif, exif[0] == 'M');
  std::uint32_t directory = 0;
  std::uint32_t entries = 0;
  if (!reader.read(4, 4, directory) || !reader.read(directory, 2, entries)) {
    return std::nullopt;
  }
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::size_t entry = static_cast<std::size_t>(directory) + 2 + 12 * static_cast<std::size_t>(i);
    std::uint32_t tag = 0;
    std::uint32_t type = 0;
    std::uint32_t count = 0;
    std::uint32_t value = 0;
    if (!reader.read(entry, 2, tag) || !reader.read(entry + 2, 2, type) || !reader.read(entry + 4, 4, count) ||
        !reader.read(entry + 8, 4, value)) {
      return std::nullopt;
    }
    if (tag != kOrientationTag || type == 0 || type >= kTypeBytes.size() || count == 0) {
      continue;
    }
    // Of several values the first counts; four bytes and less stand in the entry itself.
    const std::size_t bytes = kTypeBytes[type];
    const std::uint64_t total = std::uint64_t{count} * bytes;
    const std::size_t at = total > 4 ? value : entry + 8;
    if (total > exif.size()) {
      continue;
    }
    if (at > exif.size() - total || !reader.read(at, bytes, value)) {
      return std::nullopt;
    }
    return is_integer(type) ? value : kUpright;  // what is no integer turns nothing
  }
  return std::nullopt;
}

// Pillow looks for tiff:Orientation="N" or tiff:Orientation>N, and takes the first.
std::optional<std::uint32_t> xmp_orientation(std::string_view text) {
  constexpr std::string_view key = "tiff:Orientation";
  for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
    std::string_view rest = text.substr(at + key.size());
    const bool attribute = starts_with(rest, "=\"");
    if (attribute || starts_with(rest, ">")) {
      rest.remove_prefix(attribute ? 2 : 1);
      if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') {
        return static_cast<std::uint32_t>(rest[0] - '0');
      }
    }
  }
  return std::nullopt;
}

}  // namespace

int orientation_of(const Metadata& metadata) {
  std::optional<std::uint32_t> value = exif_orientation(metadata.exif);
  if (!value) {
    value = xmp_orientation(metadata.xmp);
  }
  return value && *value >= 1 && *value <= 8 ? static_cast<int>(*value) : kUpright;
}

Image upright(Image image, int orientation) {
  if (orientation <= kUpright || orientation > 8) {
    return image;
  }
  const int width = image.size.width;
  const int height = image.size.height;
  const bool swaps = orientation >= 5;
  Image turned{swaps ? Size{height, width} : image.size, std::vector<std::uint8_t>(image.rgb.size())};
  const bool mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int y = 0; y < turned.size.height; ++y) {
    for (int x = 0; x < turned.size.width; ++x) {
      int from_x = swaps ? y : x;
      int from_y = swaps ? x : y;
      from_x = mirror_x ? width - 1 - from_x : from_x;
      from_y = mirror_y ? height - 1 - from_y : from_y;
      const std::size_t from =
          3 * (static_cast<std::size_t>(from_y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(from_x));
      const std::size_t to =
          3 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(turned.size.width) + static_cast<std::size_t>(x));
      std::memcpy(&turned.rgb[to], &image.rgb[from], 3);
    }
  }
  return turned;
}

}  // namespace vitrify::pixels
