// A JPEG's reader: jpeg.cpp reads its header, jpeg_rows.cpp its rows.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>

// libjpeg's header needs <cstdio> before it.
#include <jpeglib.h>

#include "jpeg.hpp"
#include "jpeg_errors.hpp"
#include "jpeg_part.hpp"
#include "limits.hpp"
#include "reader.hpp"

namespace vitrify::pixels {

class JpegReader final : public Reader {
 public:
  JpegReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits, JpegSkipping skipping,
             std::unique_ptr<JpegPart> part = nullptr);
  ~JpegReader() override;

  [[nodiscard]] bool is_plain_jpeg() const override;
  Size scale_towards(Size target) override;
  void read_rows(Range columns, Range rows, const RowSink& sink) override;
  void finish() override;
  [[nodiscard]] std::unique_ptr<Reader> again() const override;
  [[nodiscard]] RowCost row_cost(Range columns) const override;

 private:
  void open();
  void find_orientation();
  [[nodiscard]] bool ends_properly() const;
  // jpeg_rows.cpp
  [[nodiscard]] bool walks() const;
  [[nodiscard]] std::unique_ptr<JpegReader> lower_part(Range& rows) const;
  void read_on(Range columns, Range rows, const RowSink& sink);

  // Runs calls into libjpeg, whose errors come back by longjmp: `calls` must own nothing that needs destroying.
  template <typename Calls>
  void guarded(const Calls& calls) {
    if (setjmp(errors_.escape) != 0) {
      throw damaged(Format::jpeg, errors_.message.data());
    }
    calls();
  }

  jpeg_decompress_struct info_{};
  jpeg_progress_mgr progress_{};
  JpegErrors errors_{};
  const std::uint8_t* data_;
  std::size_t bytes_;
  DecodeLimits limits_;
  JpegSkipping skipping_;
  std::unique_ptr<JpegPart> part_;     // what is read in the place of `data_`
  std::unique_ptr<JpegReader> lower_;  // what reads the rows in the place of this one
};

}  // namespace vitrify::pixels
