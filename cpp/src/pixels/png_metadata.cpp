#include "png_metadata.hpp"

#include <zlib.h>

#include <optional>
#include <string>
#include <string_view>

namespace vitrify::pixels {
namespace {

constexpr std::size_t kMaxText = 1 << 20;  // as much as Pillow inflates
constexpr int kMaxTexts = 16;              // a file full of them would take minutes to inflate

std::uint32_t big_endian(std::string_view bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    value = value << 8 | static_cast<std::uint8_t>(bytes[i]);
  }
  return value;
}

std::optional<std::string> inflated(std::string_view compressed) {
  std::string text;
  text.resize(kMaxText);
  uLongf length = kMaxText;
  const auto* from = reinterpret_cast<const Bytef*>(compressed.data());
  auto* to = reinterpret_cast<Bytef*>(text.data());
  if (uncompress(to, &length, from, static_cast<uLong>(compressed.size())) != Z_OK) {
    return std::nullopt;
  }
  text.resize(length);
  return text;
}

// Takes what stands before the next zero byte off `rest`.
std::optional<std::string_view> field(std::string_view& rest) {
  const std::size_t end = rest.find('\0');
  if (end == std::string_view::npos) {
    return std::nullopt;
  }
  const std::string_view taken = rest.substr(0, end);
  rest.remove_prefix(end + 1);
  return taken;
}

struct Text {
  std::string_view keyword;
  std::string value;
};

// Takes the keyword off a chunk, where it is one of the two that matter.
std::optional<std::string_view> keyword_of(std::string_view& chunk) {
  const std::optional<std::string_view> keyword = field(chunk);
  const bool matters = keyword == "Raw profile type exif" || keyword == "XML:com.adobe.xmp";
  return matters ? keyword : std::nullopt;
}

// The text of a tEXt, zTXt or iTXt chunk with such a keyword.
std::optional<Text> text_of(std::string_view type, std::string_view chunk) {
  const std::optional<std::string_view> keyword = keyword_of(chunk);
  if (!keyword) {
    return std::nullopt;
  }
  bool compressed = type == "zTXt";
  if (type == "tEXt") {
    return Text{*keyword, std::string(chunk)};
  }
  if (chunk.size() < (compressed ? 1U : 2U)) {
    return std::nullopt;
  }
  if (type == "iTXt") {
    compressed = chunk[0] != 0;
    chunk.remove_prefix(1);
  }
  const char method = chunk[0];
  chunk.remove_prefix(1);
  if (type == "iTXt" && (!field(chunk) || !field(chunk))) {  // language, translated keyword
    return std::nullopt;
  }
  if (!compressed) {
    return Text{*keyword, std::string(chunk)};
  }
  std::optional<std::string> value = method == 0 ? inflated(chunk) : std::nullopt;
  return value ? std::optional<Text>({*keyword, *std::move(value)}) : std::nullopt;
}

int hexadecimal(char digit) {
  if (digit >= '0' && digit <= '9') {
    return digit - '0';
  }
  const char lower = static_cast<char>(digit | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// "\nexif\n   count\n" and the bytes in hexadecimal digits, in lines.
std::string raw_profile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const std::size_t end = text.find('\n');
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  std::string bytes;
  int high = -1;
  for (const char character : text) {
    const int digit = hexadecimal(character);
    if (digit >= 0 && high >= 0) {
      bytes += static_cast<char>(high * 16 + digit);
      high = -1;
    } else if (digit >= 0) {
      high = digit;
    }
  }
  return bytes;
}

}  // namespace

Metadata png_metadata(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t signature = 8;
  constexpr std::size_t overhead = 12;  // length, type and checksum of a chunk
  Metadata metadata;
  std::string raw;
  bool pixels_seen = false;
  int texts = 0;
  std::string_view rest = view_of(data, size).substr(signature);
  while (rest.size() >= overhead) {
    const std::size_t length = big_endian(rest);
    const std::string_view type = rest.substr(4, 4);
    if (length > rest.size() - overhead || type == "IEND" || (type == "fcTL" && pixels_seen)) {
      break;
    }
    const std::string_view chunk = rest.substr(8, length);
    rest.remove_prefix(overhead + length);
    pixels_seen = pixels_seen || type == "IDAT";
    if (type == "eXIf") {
      metadata.exif = chunk;
    } else if ((type == "tEXt" || type == "zTXt" || type == "iTXt") && texts < kMaxTexts) {
      const std::optional<Text> text = text_of(type, chunk);
      std::string_view unread = chunk;
      texts += keyword_of(unread) ? 1 : 0;
      if (text && text->keyword == "XML:com.adobe.xmp") {
        metadata.xmp = text->value;
      } else if (text) {
        raw = raw_profile(text->value);
      }
    }
  }
  if (metadata.exif.empty()) {
    metadata.exif = raw;
  }
  return metadata;
}

}  // namespace vitrify::pixels
