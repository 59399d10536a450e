// Baseline JPEG, several times as fast as libjpeg decodes it, for what is usual; libjpeg reads the rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

// libjpeg's header needs <cstdio> before it.
#include <jpeglib.h>

#include "geometry.hpp"
#include "jpeg_kernels.hpp"
#include "reader.hpp"

namespace vitrify::pixels {

// One interleaved scan of 8-bit YCbCr, Huffman-coded, without restart markers; chroma whole, halved along rows, or
// halved in both directions. Its rows are libjpeg's to the last bit. It has no errors of its own: it stops at whatever
// is unusual, so that libjpeg may say what that is.
class BaselineJpeg {
 public:
  // Whether a header that was read up to its scan tells of such a JPEG, and this processor has kernels for it.
  [[nodiscard]] static bool can_read(const jpeg_decompress_struct& info);

  // For such a header; `end` is the end of the file. Null where a table is wrong.
  [[nodiscard]] static std::unique_ptr<BaselineJpeg> make(const jpeg_decompress_struct& info, const std::uint8_t* end);

  // Hands rows [rows.begin, rows.end) to `sink` as Reader::read_rows does, and gives the first one that it could not.
  [[nodiscard]] int read(Range columns, Range rows, const RowSink& sink);

  // Passes over the rows that are left. Whether nothing is unusual, and the file's end comes right behind the scan.
  [[nodiscard]] bool finish();

 private:
  BaselineJpeg() = default;
  static bool more(JpegScan& scan);
  [[nodiscard]] bool decode_row(int begin, int end);
  void convert_row(int row, int first_column, std::size_t pixels, std::uint8_t* const planes[3]);
  [[nodiscard]] std::int64_t bits_left() const;

  struct Scan : JpegScan {
    BaselineJpeg* owner;
  };
  struct Plane {
    int horizontal = 1;
    int vertical = 1;
    std::size_t stride = 0;
    std::vector<std::uint8_t> samples;  // of two rows of MCUs, which take turns
  };

  const JpegKernels* kernels_ = nullptr;
  Scan scan_{};
  std::vector<HuffmanTable> tables_;
  int width_ = 0;
  int height_ = 0;
  int mcu_width_ = 0;
  int mcu_height_ = 0;
  int mcu_rows_ = 0;
  int next_row_ = 0;       // of MCUs
  int planes_of_[3] = {};  // of the scan's components
  Plane planes_[3];
  std::vector<std::int16_t> sums_;
  std::vector<std::uint8_t> codes_;  // without stuffing, some kilobytes at a time
  const std::uint8_t* source_ = nullptr;
  const std::uint8_t* end_ = nullptr;
  const std::uint8_t* codes_end_ = nullptr;  // of what was read from the source
  bool ended_ = false;                       // the source has no more before its next marker
};

}  // namespace vitrify::pixels
