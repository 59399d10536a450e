// JPEGs for tests, made here so that no folder of photographs is needed.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

// libjpeg's header needs <cstdio> before it.
#include <jpeglib.h>

#include "vitrify/image.hpp"

namespace vitrify::test {

struct JpegKind {
  int horizontal = 2;  // luma samples for each chroma sample, along a row
  int vertical = 2;    // and down a column
  bool grey = false;
  bool progressive = false;
  unsigned restart = 0;  // MCUs between restart markers
  int quality = 90;
  bool own_codes = false;  // Huffman tables of the image's own
};

// Smooth colours with edges and some noise: what photographs are made of. `seed` makes them differ.
inline Image scene(Size size, unsigned seed) {
  Image image{size, std::vector<std::uint8_t>(3 * static_cast<std::size_t>(size.width) *
                                              static_cast<std::size_t>(size.height))};
  std::uint32_t noise = seed * 2654435761U + 1;
  std::uint8_t* out = image.rgb.data();
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      const double wave = std::sin(0.021 * x + seed) + std::cos(0.013 * y - 0.5 * seed);
      const bool edge = ((x / 37) + (y / 29) + static_cast<int>(seed)) % 5 == 0;
      for (int c = 0; c < 3; ++c) {
        noise = noise * 1664525U + 1013904223U;
        const double value = 128 + 45 * wave * (1 - 0.3 * c) + (edge ? 35 - 30 * c : 0) + (noise >> 24) / 32.0;
        *out++ = static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
      }
    }
  }
  return image;
}

// Ends the program where libjpeg refuses: a test's own mistake.
inline std::vector<std::uint8_t> make_jpeg(const Image& image, const JpegKind& kind) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long bytes = 0;
  jpeg_mem_dest(&info, &memory, &bytes);
  info.image_width = static_cast<JDIMENSION>(image.size.width);
  info.image_height = static_cast<JDIMENSION>(image.size.height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, kind.quality, TRUE);
  if (kind.grey) {
    jpeg_set_colorspace(&info, JCS_GRAYSCALE);
  } else {
    info.comp_info[0].h_samp_factor = kind.horizontal;
    info.comp_info[0].v_samp_factor = kind.vertical;
  }
  info.restart_interval = kind.restart;
  info.optimize_coding = kind.own_codes ? TRUE : FALSE;
  if (kind.progressive) {
    jpeg_simple_progression(&info);
  }
  jpeg_start_compress(&info, TRUE);
  const std::size_t stride = 3 * static_cast<std::size_t>(image.size.width);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = const_cast<JSAMPROW>(image.rgb.data() + info.next_scanline * stride);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  std::vector<std::uint8_t> encoded(memory, memory + bytes);
  jpeg_destroy_compress(&info);
  std::free(memory);
  return encoded;
}

}  // namespace vitrify::test
