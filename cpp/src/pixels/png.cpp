// PNG through libpng, row by row where it is not interlaced.
#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "limits.hpp"
#include "orientation.hpp"
#include "png_metadata.hpp"
#include "reader.hpp"

namespace vitrify::pixels {
namespace {

// Chunks that say nothing about pixels, and transparency, which is dropped, are not even parsed.
constexpr std::array<png_byte, 5> kTransparency = {'t', 'R', 'N', 'S', '\0'};

class PngReader final : public Reader {
 public:
  PngReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits);
  ~PngReader() override { png_destroy_read_struct(&png_, &info_, nullptr); }

  void read_rows(Range columns, Range rows, const RowSink& sink) override;

 private:
  struct Source {
    const std::uint8_t* data;
    std::size_t left;
  };

  void open(const DecodeLimits& limits);
  void read_interlaced(Range rows, const RowSink& sink);
  const std::uint8_t* rgb_of(const std::uint8_t* row);
  [[nodiscard]] bool ends_properly() const;

  [[noreturn]] static void on_error(png_structp png, png_const_charp message);
  static void on_warning(png_structp /*png*/, png_const_charp /*message*/) {}
  static void on_read(png_structp png, png_bytep out, std::size_t bytes);

  // Runs calls into libpng, whose errors come back by longjmp: `calls` must own nothing that needs destroying.
  template <typename Calls>
  void guarded(const Calls& calls) {
    if (setjmp(escape_) != 0) {
      throw damaged(Format::png, message_.data());
    }
    calls();
  }

  const std::uint8_t* data_;
  std::size_t bytes_;
  Source source_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  bool interlaced_ = false;
  bool indexed_ = false;
  std::array<std::array<std::uint8_t, 3>, 256> palette_{};
  std::vector<std::uint8_t> rgb_;  // a row of an indexed image, looked up
  std::jmp_buf escape_{};
  std::array<char, 128> message_{};
};

PngReader::PngReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits)
    : data_(data), bytes_(size), source_{data, size} {
  try {
    open(limits);
  } catch (...) {
    png_destroy_read_struct(&png_, &info_, nullptr);  // a constructor that throws has no destructor
    throw;
  }
}

void PngReader::on_error(png_structp png, png_const_charp message) {
  auto* reader = static_cast<PngReader*>(png_get_error_ptr(png));
  std::snprintf(reader->message_.data(), reader->message_.size(), "%s", message);
  std::longjmp(reader->escape_, 1);
}

void PngReader::on_read(png_structp png, png_bytep out, std::size_t bytes) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (bytes > source->left) {
    png_error(png, "the file is truncated");
  }
  std::memcpy(out, source->data, bytes);
  source->data += bytes;
  source->left -= bytes;
}

void PngReader::open(const DecodeLimits& limits) {
  guarded([&] {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png_ != nullptr) {
      info_ = png_create_info_struct(png_);
    }
  });
  if (png_ == nullptr || info_ == nullptr) {
    throw std::bad_alloc();
  }
  guarded([&] {
    png_set_read_fn(png_, &source_, on_read);
    png_set_user_limits(png_, kMaxSide, kMaxSide);
    png_set_benign_errors(png_, 1);
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, kTransparency.data(), 1);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    // A mutation that also mends the checksum is one in four billion.
    png_set_crc_action(png_, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
#endif
    png_read_info(png_, info_);
  });
  check_dimensions(png_get_image_width(png_, info_), png_get_image_height(png_, info_), bytes_, limits);
  size_ = {static_cast<int>(png_get_image_width(png_, info_)), static_cast<int>(png_get_image_height(png_, info_))};
  interlaced_ = png_get_interlace_type(png_, info_) != PNG_INTERLACE_NONE;
  indexed_ = png_get_color_type(png_, info_) == PNG_COLOR_TYPE_PALETTE;
  orientation_ = orientation_of(png_metadata(data_, bytes_));
  guarded([&] {
    png_set_strip_16(png_);
    if (indexed_) {
      png_set_packing(png_);
    } else {
      png_set_expand_gray_1_2_4_to_8(png_);
      png_set_strip_alpha(png_);
      png_set_gray_to_rgb(png_);
    }
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
  });
  if (indexed_) {
    png_colorp colors = nullptr;
    int count = 0;
    png_get_PLTE(png_, info_, &colors, &count);
    for (std::size_t i = 0; i < palette_.size() && i < static_cast<std::size_t>(count); ++i) {
      palette_[i] = {colors[i].red, colors[i].green, colors[i].blue};  // indices beyond the palette stay black
    }
  }
}

const std::uint8_t* PngReader::rgb_of(const std::uint8_t* row) {
  if (!indexed_) {
    return row;
  }
  const auto width = static_cast<std::size_t>(size_.width);
  rgb_.resize(3 * width);
  for (std::size_t x = 0; x < width; ++x) {
    std::memcpy(&rgb_[3 * x], palette_[row[x]].data(), 3);
  }
  return rgb_.data();
}

bool PngReader::ends_properly() const {
  constexpr std::array<std::uint8_t, 8> iend = {'I', 'E', 'N', 'D', 0xAE, 0x42, 0x60, 0x82};
  return bytes_ >= iend.size() && std::equal(iend.begin(), iend.end(), data_ + bytes_ - iend.size());
}

void PngReader::read_rows(Range /*columns*/, Range rows, const RowSink& sink) {
  if (interlaced_) {
    return read_interlaced(rows, sink);
  }
  std::vector<std::uint8_t> line(png_get_rowbytes(png_, info_));
  // Nobody needs the rows behind, but a truncated file is an error wherever the crop lies.
  const int end = ends_properly() ? rows.end : size_.height;
  for (int y = 0; y < end; ++y) {
    guarded([&] { png_read_row(png_, line.data(), nullptr); });
    if (y >= rows.begin && y < rows.end) {
      sink({rgb_of(line.data())});
    }
  }
}

// Seven passes, each of which fills some pixels of some rows.
void PngReader::read_interlaced(Range rows, const RowSink& sink) {
  const std::size_t stride = png_get_rowbytes(png_, info_);
  std::vector<std::uint8_t> image(stride * static_cast<std::size_t>(size_.height));
  guarded([&] {
    for (int pass = 0; pass < PNG_INTERLACE_ADAM7_PASSES; ++pass) {
      for (std::size_t y = 0; y < static_cast<std::size_t>(size_.height); ++y) {
        png_read_row(png_, image.data() + y * stride, nullptr);
      }
    }
  });
  for (int y = rows.begin; y < rows.end; ++y) {
    sink({rgb_of(image.data() + static_cast<std::size_t>(y) * stride)});
  }
}

}  // namespace

std::unique_ptr<Reader> open_png(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits) {
  return std::make_unique<PngReader>(data, size, limits);
}

}  // namespace vitrify::pixels
