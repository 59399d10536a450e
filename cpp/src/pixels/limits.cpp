#include "limits.hpp"

#include <algorithm>
#include <utility>

namespace vitrify {
namespace {

constexpr std::int64_t kArithmeticTimes = 8;

// 178,956,970 is easier to read than 178956970.
std::string grouped(std::int64_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3; at -= 3) {
    digits.insert(at - 3, ",");
  }
  return digits;
}

}  // namespace

namespace pixels {

void check_bytes(std::size_t bytes, const DecodeLimits& limits) {
  if (bytes == 0) {
    throw ImageError("not an image", "an empty file");
  }
  if (static_cast<std::uint64_t>(bytes) > static_cast<std::uint64_t>(std::max<std::int64_t>(limits.max_bytes, 0))) {
    throw ImageError("the image file is too large", grouped(static_cast<std::int64_t>(bytes)) + " bytes",
                     "at most " + grouped(limits.max_bytes) + " bytes",
                     "raise DecodeLimits.max_bytes if the source is trusted");
  }
}

void check_dimensions(std::int64_t width, std::int64_t height, std::size_t bytes, const DecodeLimits& limits) {
  const std::string size = std::to_string(width) + " x " + std::to_string(height);
  if (width < 1 || height < 1) {
    throw ImageError("the image has no pixels", size, "at least 1 x 1");
  }
  if (width > kMaxSide || height > kMaxSide) {
    throw ImageError("the image has too long a side", size, "at most " + grouped(kMaxSide) + " pixels a side");
  }
  if (width * height > limits.max_pixels) {
    throw ImageError("the image has too many pixels", size, "at most " + grouped(limits.max_pixels) + " pixels",
                     "scale it down, or raise DecodeLimits.max_pixels if the source is trusted");
  }
  const std::int64_t ratio = 3 * width * height / std::max(static_cast<std::int64_t>(bytes), kSmallFile);
  if (ratio > limits.max_ratio) {
    throw ImageError("the image file is too small for its pixels",
                     size + " in " + grouped(static_cast<std::int64_t>(bytes)) + " bytes",
                     "at most " + grouped(limits.max_ratio) + " decoded bytes for each of the file's",
                     "store it less compressed, or raise DecodeLimits.max_ratio if the source is trusted");
  }
}

void check_memory(const std::string& what, std::int64_t width, std::int64_t height, std::int64_t pixel_bytes,
                  const DecodeLimits& limits) {
  if (width * height > limits.max_memory / pixel_bytes) {
    throw ImageError(what + " would take too much memory",
                     std::to_string(width) + " x " + std::to_string(height) + " pixels, " +
                         std::to_string(pixel_bytes) + " bytes each while it is decoded",
                     "at most " + grouped(limits.max_memory) + " bytes",
                     "make it smaller, or raise DecodeLimits.max_memory if the source is trusted");
  }
}

void check_scans(std::int64_t width, std::int64_t height, std::int64_t scans, bool arithmetic,
                 const DecodeLimits& limits) {
  const std::int64_t times = arithmetic ? kArithmeticTimes : 1;
  if (width * height > limits.max_scan_pixels / std::max<std::int64_t>(1, scans * times)) {
    const std::string slow = ", arithmetic-coded: " + std::to_string(times) + " times as slow";
    throw ImageError("the JPEG's scans would take too long",
                     std::to_string(width) + " x " + std::to_string(height) + " pixels, " + std::to_string(scans) +
                         " scans" + (arithmetic ? slow : ""),
                     "at most " + grouped(limits.max_scan_pixels) + " pixels in all scans together",
                     "save it as a baseline JPEG, or raise DecodeLimits.max_scan_pixels if the source is trusted");
  }
}

ImageError damaged(Format format, const std::string& detail) {
  return ImageError("the image is damaged or truncated", std::string(name_of(format)) + ": " + detail, {},
                    "open it in a viewer, or replace it");
}

ImageError unsupported(Format format, const std::string& detail) {
  return ImageError("the image is of a kind that is not supported", std::string(name_of(format)) + ": " + detail, {},
                    "convert it to JPEG or PNG");
}

}  // namespace pixels
}  // namespace vitrify
