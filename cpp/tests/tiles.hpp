// What a block of the GPU's threads does, on the CPU, a tile after the other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "preprocess.hpp"
#include "tile.hpp"

namespace vitrify::test {

// preprocess.cu's kernel for one image, a tile after the other.
inline std::vector<float> run_tiles(const cuda::Job& job, const std::vector<std::int32_t>& tables,
                                    const std::uint8_t* pixels, const cuda::Table& table, const Preprocess& spec) {
  using namespace cuda;
  const int width = spec.crop.width;
  const int height = spec.crop.height;
  const std::size_t plane = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  const std::int32_t* numbers = tables.data();
  const bool along_x = !job.vertical_first;
  const Axis& one = along_x ? job.x : job.y;
  const Axis& two = along_x ? job.y : job.x;
  std::vector<float> out(3 * plane);
  for (int tile_y = 0; tile_y < height; tile_y += kTileHeight) {
    for (int tile_x = 0; tile_x < width; tile_x += kTileWidth) {
      std::vector<std::uint8_t> middle(kChunk * kTileWidth * 3);
      std::vector<Sums> sums(kTileWidth * kTileHeight);
      const int x0 = tile_x - job.x.to;
      const int y0 = tile_y - job.y.to;
      const int x_begin = std::max(x0, 0);
      const int x_end = std::min(x0 + kTileWidth, job.x.outputs);
      const int y_begin = std::max(y0, 0);
      const int y_end = std::min(y0 + kTileHeight, job.y.outputs);
      if (x_begin < x_end && y_begin < y_end) {
        const int one_begin = along_x ? x_begin : y_begin;
        const int one_end = along_x ? x_end : y_end;
        const Lines lines = lines_of(two, numbers, along_x ? y_begin : x_begin, along_x ? y_end : x_end);
        for (int chunk = lines.begin; chunk < lines.end; chunk += kChunk) {
          const int chunk_end = std::min(chunk + kChunk, lines.end);
          for (int line = chunk; line < chunk_end; ++line) {
            for (int output = one_begin; output < one_end; ++output) {
              resample(line_of(job, pixels, along_x, line), one, numbers, output,
                       &middle[static_cast<std::size_t>((line - chunk) * kTileWidth + output - one_begin) * 3]);
            }
          }
          for (int y = y_begin; y < y_end; ++y) {
            for (int x = x_begin; x < x_end; ++x) {
              const int mine = (along_x ? x : y) - one_begin;
              accumulate(sums[static_cast<std::size_t>((y - y0) * kTileWidth + x - x0)], two, numbers, along_x ? y : x,
                         chunk, chunk_end, &middle[static_cast<std::size_t>(mine) * 3], kTileWidth * 3);
            }
          }
        }
      }
      for (int row = tile_y; row < std::min(tile_y + kTileHeight, height); ++row) {
        for (int column = tile_x; column < std::min(tile_x + kTileWidth, width); ++column) {
          const int x = column - job.x.to;
          const int y = row - job.y.to;
          std::uint8_t rgb[3] = {spec.fill[0], spec.fill[1], spec.fill[2]};
          if (x >= 0 && x < job.x.outputs && y >= 0 && y < job.y.outputs) {
            sums[static_cast<std::size_t>((y - y0) * kTileWidth + x - x0)].store(rgb);
          }
          for (std::size_t c = 0; c < 3; ++c) {
            out[c * plane + static_cast<std::size_t>(row * width + column)] = table[c][rgb[c]];
          }
        }
      }
    }
  }
  return out;
}

}  // namespace vitrify::test
