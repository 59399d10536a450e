// JPEG through libjpeg-turbo, row by row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "pipeline.hpp"
#include "vitrify/image.hpp"

namespace vitrify::pixels {

// Takes a row and the source column at which it begins.
using RowSink = std::function<void(const std::uint8_t* rgb, int first_column)>;

// One JPEG, header read. The bytes must outlive it. Every member throws ImageError.
class JpegReader {
 public:
  JpegReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
  ~JpegReader();
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  [[nodiscard]] Size size() const;       // as stored, before orientation and scaling
  [[nodiscard]] int orientation() const;  // EXIF, 1 to 8

  // Has libjpeg decode at the smallest of 1/2, 1/4, 1/8 that keeps both sides at least kScaleMargin times `target`'s,
  // and gives the size that `read` then delivers.
  Size scale_towards(Size target);

  // Decodes rows [rows.begin, rows.end) and hands each to `sink`, holding at least `columns`. Once only.
  void read(Range columns, Range rows, const RowSink& sink);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

inline constexpr double kScaleMargin = 2.0;

}  // namespace vitrify::pixels
