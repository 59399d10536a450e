// One encoded image, header read: what every format's decoder looks like to the rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "orientation.hpp"
#include "pipeline.hpp"
#include "vitrify/image.hpp"

namespace vitrify::pixels {

// Takes a row and the source column at which it begins.
using RowSink = std::function<void(const std::uint8_t* rgb, int first_column)>;

// The bytes must outlive it. Every member throws ImageError.
class Reader {
 public:
  Reader() = default;
  virtual ~Reader() = default;
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  [[nodiscard]] Size size() const { return size_; }               // as stored, before orientation and scaling
  [[nodiscard]] int orientation() const { return orientation_; }  // EXIF, 1 to 8

  // Whether it is a JPEG as hardware decodes it: baseline, Huffman-coded, 8 bits, grey or YCbCr, with an end.
  [[nodiscard]] virtual bool is_plain_jpeg() const { return false; }

  // Decodes at a fraction of the size that is still kScaleMargin times `target`'s, where the format can do so, and
  // gives the size that `read` then delivers.
  virtual Size scale_towards(Size /*target*/) { return size_; }

  // Decodes rows [rows.begin, rows.end) and hands each to `sink`, holding at least `columns`. Once only.
  virtual void read(Range columns, Range rows, const RowSink& sink) = 0;

 protected:
  Size size_;
  int orientation_ = kUpright;
};

// How much larger than the resized image a scaled decode must be. Pillow's thumbnail has reducing_gap=2.0 for the same
// trade; docs/explanation/pixels.md has the drift at other margins.
inline constexpr double kScaleMargin = 2.0;

// A reader for what the first bytes say; the limits are checked.
[[nodiscard]] std::unique_ptr<Reader> open(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);

// What preprocess_encoded does once the header is read.
void preprocess(Reader& reader, const Preprocess& spec, bool fast, float* out);

// The whole image, upright.
[[nodiscard]] Image decode(Reader& reader);

// One for each format that this build can decode.
[[nodiscard]] std::unique_ptr<Reader> open_jpeg(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
[[nodiscard]] std::unique_ptr<Reader> open_png(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
[[nodiscard]] std::unique_ptr<Reader> open_bmp(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
[[nodiscard]] std::unique_ptr<Reader> open_gif(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
[[nodiscard]] std::unique_ptr<Reader> open_webp(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);

}  // namespace vitrify::pixels
