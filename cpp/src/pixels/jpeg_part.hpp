// The lower part of a baseline JPEG as a JPEG of its own, for libjpeg to decode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

// libjpeg's header needs <cstdio> before it.
#include <jpeglib.h>

#include "jpeg_scan.hpp"

namespace vitrify::pixels {

// What libjpeg reads: the file's header with another height; a made-up row of MCUs, whose DC differences add up to what
// the next row's are added to; and the rest of the file's bits, moved to where the made-up ones end.
class JpegPart {
 public:
  // The part whose first row of MCUs is the file's `first_row`, of which it has another one in its place. `info` has
  // read the header of `data` and nothing behind it. None where the file has anything that is not common.
  [[nodiscard]] static std::unique_ptr<JpegPart> make(const jpeg_decompress_struct& info, const std::uint8_t* data,
                                                      std::size_t size, std::int64_t first_row);

  // For a decompressor that this outlives.
  [[nodiscard]] jpeg_source_mgr* source() { return &source_.base; }

 private:
  struct Source {
    jpeg_source_mgr base{};  // must come first: libjpeg knows only this
    JpegPart* part = nullptr;
  };
  JpegPart() = default;
  bool copy_header(const std::uint8_t* data, const std::uint8_t* scan, std::uint32_t height);
  bool make_up_row(const JpegScan& scan, const ScanPosition& position);
  void put(std::uint8_t*& out, std::uint64_t bits, int count);
  void fill();

  Source source_;
  std::vector<std::uint8_t> head_;   // the header, the made-up row, and the bits that were read already
  std::vector<std::uint8_t> moved_;  // the bytes that were moved last
  const std::uint8_t* next_ = nullptr;
  const std::uint8_t* end_ = nullptr;
  std::uint64_t pending_ = 0;  // bits that do not fill a byte yet, the lowest ones
  int pending_count_ = 0;
  bool scan_ended_ = false;  // what is left goes on as it is
};

}  // namespace vitrify::pixels
