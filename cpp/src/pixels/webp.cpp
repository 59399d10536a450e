// WebP through libwebp. Not row by row: lossy rows would come out one macroblock row late, lossless ones not at all.
#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>
#include <string_view>
#include <vector>

#include "limits.hpp"
#include "orientation.hpp"
#include "reader.hpp"

namespace vitrify::pixels {
namespace {

constexpr std::size_t kRiffHeader = 12;
constexpr std::size_t kChunkHeader = 8;
constexpr std::int64_t kAnimationBytes = 14;  // two canvases of RGBA, a frame, the pixels

// EXIF and XMP, which only files with an extended header can have.
Metadata metadata_of(std::string_view file) {
  constexpr char xmp_flag = 4;
  constexpr char exif_flag = 8;
  Metadata metadata;
  if (file.size() < 30 || file.substr(kRiffHeader, 4) != "VP8X") {
    return metadata;
  }
  const char flags = file[20];
  std::string_view rest = file.substr(kRiffHeader);
  while (rest.size() >= kChunkHeader) {
    std::size_t length = 0;
    for (std::size_t i = 8; i > 4; --i) {
      length = length << 8 | static_cast<std::uint8_t>(rest[i - 1]);
    }
    const std::string_view type = rest.substr(0, 4);
    const std::string_view chunk = rest.substr(kChunkHeader, length);
    if (type == "EXIF" && (flags & exif_flag) != 0 && metadata.exif.empty()) {
      metadata.exif = chunk;
    } else if (type == "XMP " && (flags & xmp_flag) != 0 && metadata.xmp.empty()) {
      metadata.xmp = chunk;
    }
    const std::size_t padded = kChunkHeader + length + length % 2;
    rest = padded > rest.size() ? std::string_view() : rest.substr(padded);
  }
  return metadata;
}

class WebpReader final : public Reader {
 public:
  WebpReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits) : data_(data), bytes_(size) {
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(data, size, &features) != VP8_STATUS_OK) {
      throw damaged(Format::webp, "the header cannot be read");
    }
    check_dimensions(features.width, features.height, size, limits);
    size_ = {features.width, features.height};
    animated_ = features.has_animation != 0;
    if (animated_) {
      check_memory("the animated WebP", features.width, features.height, kAnimationBytes, limits);
    }
    orientation_ = orientation_of(metadata_of(view_of(data, size)));
  }

  void read_rows(Range /*columns*/, Range rows, const RowSink& sink) override {
    const std::size_t stride = 3 * static_cast<std::size_t>(size_.width);
    std::vector<std::uint8_t> rgb(stride * static_cast<std::size_t>(size_.height));
    if (animated_) {
      read_first_frame(rgb);
    } else if (WebPDecodeRGBInto(data_, bytes_, rgb.data(), rgb.size(), static_cast<int>(stride)) == nullptr) {
      throw damaged(Format::webp, "the pixels cannot be decoded");
    }
    for (int y = rows.begin; y < rows.end; ++y) {
      sink({rgb.data() + static_cast<std::size_t>(y) * stride});
    }
  }

 private:
  void read_first_frame(std::vector<std::uint8_t>& rgb) const {
    const WebPData file{data_, bytes_};
    const std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)> decoder(WebPAnimDecoderNew(&file, nullptr),
                                                                                     &WebPAnimDecoderDelete);
    std::uint8_t* rgba = nullptr;
    int milliseconds = 0;
    if (!decoder || WebPAnimDecoderGetNext(decoder.get(), &rgba, &milliseconds) == 0) {
      throw damaged(Format::webp, "the first frame cannot be decoded");
    }
    for (std::size_t i = 0; i < rgb.size(); ++i) {
      rgb[i] = rgba[i / 3 * 4 + i % 3];
    }
  }

  const std::uint8_t* data_;
  std::size_t bytes_;
  bool animated_ = false;
};

}  // namespace

std::unique_ptr<Reader> open_webp(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits) {
  return std::make_unique<WebpReader>(data, size, limits);
}

}  // namespace vitrify::pixels
