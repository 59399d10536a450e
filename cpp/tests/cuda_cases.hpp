// Images and specs for the tests of the GPU's preprocessing, and what the CPU core makes of them.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "orientation.hpp"
#include "preprocess.hpp"
#include "vitrify/image.hpp"

namespace vitrify::test {

struct CudaCase {
  Image stored;
  int orientation = 1;
};

inline std::vector<Preprocess> cuda_specs() {
  std::vector<Preprocess> specs;
  const ResizeRule rules[] = {ResizeRule::shortest, ResizeRule::squash, ResizeRule::longest};
  for (int i = 0; i < 6; ++i) {
    for (const ResizeRule rule : rules) {
      Preprocess spec;
      spec.resize_rule = rule;
      spec.interpolation = static_cast<Interpolation>(i);
      spec.resize_box = i % 2 == 0 ? Size{36, 36} : Size{41, 33};
      spec.crop = i % 3 == 0 ? Size{32, 32} : Size{48, 30};  // the larger one has to be filled
      spec.mean = {0.485F, 0.456F, 0.406F};
      spec.std = {0.229F, 0.224F, 0.225F};
      spec.fill = {7, 128, 250};
      specs.push_back(spec);
    }
  }
  return specs;
}

// Noise of every shape, with every orientation: a few pixels, tall ones that are resized vertically first, large ones
// whose lines come in several chunks.
inline std::vector<CudaCase> cuda_cases(int count) {
  std::mt19937 random(1);
  std::vector<CudaCase> cases;
  const Size fixed[] = {{1, 1}, {1, 300}, {300, 1}, {36, 36}, {32, 32}, {40, 900}, {900, 40}, {1300, 1100}, {33, 41}};
  for (int i = 0; i < count; ++i) {
    const Size size =
        i < 9 ? fixed[i] : Size{1 + static_cast<int>(random() % 260), 1 + static_cast<int>(random() % 260)};
    CudaCase one{{size, {}}, 1 + i % 8};
    one.stored.rgb.resize(3 * static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height));
    for (std::uint8_t& value : one.stored.rgb) {
      value = static_cast<std::uint8_t>(random() % 2 == 0 ? random() : (random() % 2) * 255);
    }
    cases.push_back(one);
  }
  return cases;
}

inline std::vector<float> cpu_tensor(const CudaCase& one, const Preprocess& spec) {
  const Image image = pixels::upright(one.stored, one.orientation);
  std::vector<float> tensor(3 * static_cast<std::size_t>(spec.crop.width) * static_cast<std::size_t>(spec.crop.height));
  preprocess_rgb(image.rgb.data(), image.size, spec, tensor.data());
  return tensor;
}

// The window alone, with nothing behind it: sanitizers see a read beside it.
inline std::vector<std::uint8_t> cut(const Image& stored, const cuda::Window& window) {
  const std::size_t bytes = 3 * static_cast<std::size_t>(window.size.width);
  std::vector<std::uint8_t> pixels;
  for (int y = window.row; y < window.row + window.size.height; ++y) {
    const auto row = stored.rgb.begin() + 3 * (static_cast<std::ptrdiff_t>(y) * stored.size.width + window.column);
    pixels.insert(pixels.end(), row, row + static_cast<std::ptrdiff_t>(bytes));
  }
  return pixels;
}

}  // namespace vitrify::test
