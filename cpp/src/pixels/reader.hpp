// One encoded image, header read: what every format's decoder looks like to the rest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "orientation.hpp"
#include "pipeline.hpp"
#include "vitrify/image.hpp"

namespace vitrify::pixels {

// A row of pixels, from a column of the source on.
struct Row {
  const std::uint8_t* rgb = nullptr;  // interleaved; where null, there are planes
  int first_column = 0;
  std::array<const std::uint8_t*, 3> planes = {};  // with kPadding readable bytes behind the end
};
using RowSink = std::function<void(const Row& row)>;

class Workers;

// What a row takes one reader, in nanoseconds: to decode and resize it, and to pass over it on the way to a later one.
struct RowCost {
  double decode_ns = 0;
  double skip_ns = 0;
};

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
  void read(Range columns, Range rows, const RowSink& sink) {
    read_rows(columns, rows, sink);
    finish();
  }

  // The two halves of `read`: the rows, and a look at the rest of the file, whose truncation is an error wherever the
  // rows lie.
  virtual void read_rows(Range columns, Range rows, const RowSink& sink) = 0;
  virtual void finish() {}

  // Another reader of the same bytes, scaled in the same way, which gives the same rows. Only where rows have a cost:
  // elsewhere one cannot skip rows, or would win nothing by it.
  [[nodiscard]] virtual std::unique_ptr<Reader> again() const { return nullptr; }
  [[nodiscard]] virtual RowCost row_cost(Range /*columns*/) const { return {}; }

 protected:
  Size size_;
  int orientation_ = kUpright;
};

// How much larger than the resized image a scaled decode must be. Pillow's thumbnail has reducing_gap=2.0 for the same
// trade; docs/explanation/pixels.md has the drift at other margins.
inline constexpr double kScaleMargin = 2.0;

// A reader for what the first bytes say; the limits are checked.
[[nodiscard]] std::unique_ptr<Reader> open(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);

// What preprocess_encoded does once the header is read, on up to `threads` threads, of which the workers give what they
// can spare.
void preprocess(Reader& reader, const Preprocess& spec, bool fast, Workers& workers, std::size_t threads, float* out);

// The whole image, upright; on up to `threads` threads.
[[nodiscard]] Image decode(Reader& reader, Workers& workers, std::size_t threads);

// One for each format that this build can decode.
[[nodiscard]] std::unique_ptr<Reader> open_jpeg(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
[[nodiscard]] std::unique_ptr<Reader> open_png(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
[[nodiscard]] std::unique_ptr<Reader> open_bmp(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
[[nodiscard]] std::unique_ptr<Reader> open_gif(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
[[nodiscard]] std::unique_ptr<Reader> open_webp(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);

}  // namespace vitrify::pixels
