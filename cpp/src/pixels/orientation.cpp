#include "orientation.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace vitrify::pixels {
namespace {

constexpr std::uint32_t kOrientationTag = 0x0112;  // EXIF 2.32, 4.6.4 A
constexpr std::string_view kExifHeader{"Exif\0\0", 6};
constexpr std::string_view kXmpHeader{"http://ns.adobe.com/xap/1.0/\0", 29};

// Bounds-checked integers of either byte order.
class TiffReader {
 public:
  TiffReader(const std::uint8_t* data, std::size_t size, bool big_endian)
      : data_(data), size_(size), big_endian_(big_endian) {}

  [[nodiscard]] bool read(std::size_t at, std::size_t bytes, std::uint32_t& value) const {
    if (at > size_ || bytes > size_ - at) {
      return false;
    }
    value = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
      const std::uint32_t byte = data_[at + (big_endian_ ? i : bytes - 1 - i)];
      value = value << 8 | byte;
    }
    return true;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  bool big_endian_;
};

int valid(std::uint32_t value) { return value >= 1 && value <= 8 ? static_cast<int>(value) : kUpright; }

bool starts_with(const std::uint8_t* data, std::size_t size, std::string_view prefix) {
  return size >= prefix.size() && std::memcmp(data, prefix.data(), prefix.size()) == 0;
}

}  // namespace

int exif_orientation(const std::uint8_t* segment, std::size_t size) {
  if (!starts_with(segment, size, kExifHeader)) {
    return kUpright;
  }
  const std::uint8_t* tiff = segment + kExifHeader.size();
  size -= kExifHeader.size();
  const bool little = starts_with(tiff, size, std::string_view("II\x2A\0", 4));
  const bool big = starts_with(tiff, size, std::string_view("MM\0\x2A", 4));
  if (!little && !big) {
    return kUpright;
  }
  const TiffReader reader(tiff, size, big);
  std::uint32_t directory = 0;
  std::uint32_t entries = 0;
  if (!reader.read(4, 4, directory) || !reader.read(directory, 2, entries)) {
    return kUpright;
  }
  for (std::uint32_t i = 0; i < entries; ++i) {
    const std::size_t entry = static_cast<std::size_t>(directory) + 2 + 12 * static_cast<std::size_t>(i);
    std::uint32_t tag = 0;
    std::uint32_t type = 0;
    std::uint32_t count = 0;
    std::uint32_t value = 0;
    if (!reader.read(entry, 2, tag)) {
      return kUpright;
    }
    if (tag == kOrientationTag && reader.read(entry + 2, 2, type) && reader.read(entry + 4, 4, count) && count == 1) {
      const std::size_t bytes = type == 1 ? 1 : type == 3 ? 2 : type == 4 ? 4 : 0;
      return bytes != 0 && reader.read(entry + 8, bytes, value) ? valid(value) : kUpright;
    }
  }
  return kUpright;
}

int xmp_orientation(const std::uint8_t* segment, std::size_t size) {
  if (!starts_with(segment, size, kXmpHeader)) {
    return kUpright;
  }
  // Pillow looks for tiff:Orientation="N" or tiff:Orientation>N, and takes the first.
  const std::string_view text(reinterpret_cast<const char*>(segment), size);
  constexpr std::string_view key = "tiff:Orientation";
  for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
    std::string_view rest = text.substr(at + key.size());
    const bool attribute = rest.substr(0, 2) == "=\"";
    const bool element = rest.substr(0, 1) == ">";
    if (attribute || element) {
      rest.remove_prefix(attribute ? 2 : 1);
      if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') {
        return valid(static_cast<std::uint32_t>(rest[0] - '0'));
      }
    }
  }
  return kUpright;
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
      const std::size_t from = 3 * (static_cast<std::size_t>(from_y) * static_cast<std::size_t>(width) +
                                    static_cast<std::size_t>(from_x));
      const std::size_t to = 3 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(turned.size.width) +
                                  static_cast<std::size_t>(x));
      std::memcpy(&turned.rgb[to], &image.rgb[from], 3);
    }
  }
  return turned;
}

}  // namespace vitrify::pixels
