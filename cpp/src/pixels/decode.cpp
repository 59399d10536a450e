// Encoded bytes to upright RGB.
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "limits.hpp"
#include "orientation.hpp"
#include "reader.hpp"
#include "shares.hpp"
#include "vitrify/image.hpp"

namespace vitrify {
namespace {

bool has(const std::uint8_t* data, std::size_t size, std::size_t at, std::string_view text) {
  return size >= at + text.size() && std::memcmp(data + at, text.data(), text.size()) == 0;
}

std::string beginning(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t shown = 8;
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text = std::to_string(size) + " bytes beginning with";
  for (std::size_t i = 0; i < size && i < shown; ++i) {
    text += {' ', digits[data[i] >> 4], digits[data[i] & 15]};
  }
  return text;
}

}  // namespace

Format format_of(const std::uint8_t* data, std::size_t size) noexcept {
  if (has(data, size, 0, "\xFF\xD8\xFF")) {
    return Format::jpeg;
  }
  if (has(data, size, 0, "\x89PNG\r\n\x1A\n")) {
    return Format::png;
  }
  if (has(data, size, 0, "RIFF") && has(data, size, 8, "WEBP")) {
    return Format::webp;
  }
  if (has(data, size, 0, "GIF87a") || has(data, size, 0, "GIF89a")) {
    return Format::gif;
  }
  return has(data, size, 0, "BM") ? Format::bmp : Format::unknown;
}

bool can_decode(Format format) noexcept {
  switch (format) {
    case Format::bmp:
    case Format::gif:
      return true;
#ifdef VITRIFY_JPEG
    case Format::jpeg:
      return true;
#endif
#ifdef VITRIFY_PNG
    case Format::png:
      return true;
#endif
#ifdef VITRIFY_WEBP
    case Format::webp:
      return true;
#endif
    default:
      return false;
  }
}

const char* name_of(Format format) noexcept {
  switch (format) {
    case Format::jpeg:
      return "JPEG";
    case Format::png:
      return "PNG";
    case Format::bmp:
      return "BMP";
    case Format::webp:
      return "WebP";
    case Format::gif:
      return "GIF";
    case Format::unknown:
      break;
  }
  return "unknown";
}

namespace pixels {

std::unique_ptr<Reader> open(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits) {
  check_bytes(size, limits);
  const Format format = format_of(data, size);
  switch (format) {
    case Format::unknown:
      throw ImageError("not an image", beginning(data, size), "JPEG, PNG, WebP, BMP or GIF");
    case Format::bmp:
      return open_bmp(data, size, limits);
    case Format::gif:
      return open_gif(data, size, limits);
#ifdef VITRIFY_JPEG
    case Format::jpeg:
      return open_jpeg(data, size, limits);
#endif
#ifdef VITRIFY_PNG
    case Format::png:
      return open_png(data, size, limits);
#endif
#ifdef VITRIFY_WEBP
    case Format::webp:
      return open_webp(data, size, limits);
#endif
    default:
      throw ImageError(std::string("this build cannot read ") + name_of(format), {}, {},
                       "convert it to JPEG or PNG, or build with the library that reads it");
  }
}

Image decode(Reader& reader, Workers& workers, std::size_t threads) {
  const Size size = reader.size();
  const std::size_t stride = 3 * static_cast<std::size_t>(size.width);
  Image image{size, std::vector<std::uint8_t>(stride * static_cast<std::size_t>(size.height))};
  const Range columns{0, size.width};
  read_shared(reader, columns, {0, size.height}, copy_to(image.rgb.data(), columns, 0), workers, threads);
  return upright(std::move(image), reader.orientation());
}

}  // namespace pixels

Image decode(const std::uint8_t* data, std::size_t size, const DecodeOptions& options) {
  pixels::Workers alone(1);
  return pixels::decode(*pixels::open(data, size, options.limits), alone, 1);
}

}  // namespace vitrify
