#include "jpeg.hpp"

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <string>
#include <vector>

// libjpeg's header needs <cstdio> before it.
#include <jerror.h>
#include <jpeglib.h>

#include "orientation.hpp"

namespace vitrify::pixels {
namespace {

constexpr int kExifMarker = JPEG_APP0 + 1;
// Cropped decoding has no neighbours to interpolate chroma from at its edges: this many columns more on each side, a
// full minimum coded unit at its largest, keep the wanted ones exact.
constexpr int kEdge = 32;

struct ErrorManager {
  jpeg_error_mgr base;  // must come first: libjpeg knows only this
  std::jmp_buf escape;
  std::array<char, JMSG_LENGTH_MAX> message;
};

[[noreturn]] void on_error(j_common_ptr info) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  (*info->err->format_message)(info, manager->message.data());
  std::longjmp(manager->escape, 1);
}

void on_message(j_common_ptr info, int level) {
  // The memory source makes an end up where the data has none, and only warns. Pillow calls that truncated.
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) {
    auto* manager = reinterpret_cast<ErrorManager*>(info->err);
    std::snprintf(manager->message.data(), manager->message.size(), "the image file is truncated");
    std::longjmp(manager->escape, 1);
  }
}

void on_output(j_common_ptr /*info*/) {}

int muldiv255(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// Pillow's conversion of the inverted CMYK that Adobe writes.
void rgb_from_cmyk(const std::uint8_t* cmyk, std::size_t pixels, std::uint8_t* rgb) {
  for (std::size_t x = 0; x < pixels; ++x) {
    const int key = cmyk[4 * x + 3];  // already 255 - K, because the file holds the inverse
    for (std::size_t c = 0; c < 3; ++c) {
      const int value = key - muldiv255(255 - cmyk[4 * x + c], key);
      rgb[3 * x + c] = static_cast<std::uint8_t>(std::clamp(value, 0, 255));
    }
  }
}

bool ends_properly(const std::uint8_t* data, std::size_t size) {
  return size >= 2 && data[size - 2] == 0xFF && data[size - 1] == JPEG_EOI;
}

}  // namespace

struct JpegReader::State {
  jpeg_decompress_struct info{};
  ErrorManager errors{};
  const std::uint8_t* data = nullptr;
  std::size_t bytes = 0;
  int orientation = kUpright;

  // Runs calls into libjpeg, whose errors come back by longjmp: `calls` must own nothing that needs destroying.
  template <typename Calls>
  void guarded(const Calls& calls) {
    if (setjmp(errors.escape) != 0) {
      throw ImageError(std::string("JPEG: ") + errors.message.data());
    }
    calls();
  }

  void find_orientation() {
    int exif = 0;
    int xmp = 0;
    for (jpeg_saved_marker_ptr marker = info.marker_list; marker != nullptr; marker = marker->next) {
      if (marker->marker == kExifMarker) {
        exif = exif != 0 ? exif : exif_orientation(marker->data, marker->data_length);
        xmp = xmp != 0 ? xmp : xmp_orientation(marker->data, marker->data_length);
      }
    }
    orientation = exif > kUpright ? exif : xmp > kUpright ? xmp : kUpright;
  }
};

JpegReader::JpegReader(const std::uint8_t* data, std::size_t size, const DecodeLimits& limits)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.data = data;
  state.bytes = size;
  jpeg_decompress_struct& info = state.info;
  info.err = jpeg_std_error(&state.errors.base);
  info.err->error_exit = on_error;
  info.err->emit_message = on_message;
  info.err->output_message = on_output;
  state.guarded([&] {
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, data, static_cast<unsigned long>(size));
    jpeg_save_markers(&info, kExifMarker, 0xFFFF);
    jpeg_read_header(&info, TRUE);
  });
  const auto pixels = static_cast<std::int64_t>(info.image_width) * static_cast<std::int64_t>(info.image_height);
  if (pixels > limits.max_pixels) {
    throw ImageError("the image has too many pixels: " + std::to_string(info.image_width) + " x " +
                     std::to_string(info.image_height));
  }
  const int components = info.num_components;
  if (components != 1 && components != 3 && components != 4) {
    throw ImageError("JPEG: " + std::to_string(components) + " components are neither grey, RGB nor CMYK");
  }
  info.out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
  state.find_orientation();
}

JpegReader::~JpegReader() {
  if (state_) {
    jpeg_destroy_decompress(&state_->info);
  }
}

Size JpegReader::size() const {
  return {static_cast<int>(state_->info.image_width), static_cast<int>(state_->info.image_height)};
}

int JpegReader::orientation() const { return state_->orientation; }

Size JpegReader::scale_towards(Size target) {
  jpeg_decompress_struct& info = state_->info;
  info.scale_num = 1;
  for (const unsigned denominator : {8U, 4U, 2U, 1U}) {
    info.scale_denom = denominator;
    state_->guarded([&] { jpeg_calc_output_dimensions(&info); });
    if (info.output_width >= kScaleMargin * target.width && info.output_height >= kScaleMargin * target.height) {
      break;
    }
  }
  return {static_cast<int>(info.output_width), static_cast<int>(info.output_height)};
}

void JpegReader::read(Range columns, Range rows, const RowSink& sink) {
  State& state = *state_;
  jpeg_decompress_struct& info = state.info;
  JDIMENSION offset = 0;
  state.guarded([&] {
    jpeg_start_decompress(&info);
    const int begin = std::max(0, columns.begin - kEdge);
    const int end = std::min(static_cast<int>(info.output_width), columns.end + kEdge);
    auto width = static_cast<JDIMENSION>(end - begin);
    offset = static_cast<JDIMENSION>(begin);
    if (width < info.output_width) {
      jpeg_crop_scanline(&info, &offset, &width);
    }
  });
  const std::size_t width = info.output_width;
  const auto channels = static_cast<std::size_t>(info.output_components);
  std::vector<std::uint8_t> line(width * channels);
  std::vector<std::uint8_t> rgb(channels == 4 ? width * 3 : 0);
  JSAMPROW row = line.data();
  state.guarded([&] {
    if (rows.begin > 0) {
      jpeg_skip_scanlines(&info, static_cast<JDIMENSION>(rows.begin));
    }
  });
  for (int y = rows.begin; y < rows.end; ++y) {
    state.guarded([&] { jpeg_read_scanlines(&info, &row, 1); });
    if (channels == 4) {
      rgb_from_cmyk(line.data(), width, rgb.data());
    }
    sink(channels == 4 ? rgb.data() : line.data(), static_cast<int>(offset));
  }
  const JDIMENSION left = info.output_height - static_cast<JDIMENSION>(rows.end);
  if (left > 0 && !ends_properly(state.data, state.bytes)) {
    // Nobody needs these rows, but a truncated file is an error wherever the crop lies.
    state.guarded([&] { jpeg_skip_scanlines(&info, left); });
  }
  state.guarded([&] { jpeg_abort_decompress(&info); });
}

}  // namespace vitrify::pixels
