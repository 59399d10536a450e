#include "kernels.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <string>

namespace vitrify::pixels {
namespace {

constexpr std::array kAll = {
#ifdef VITRIFY_X86
    &avx512_kernels, &avx2_kernels,
#endif
#ifdef VITRIFY_NEON
    &neon_kernels,
#endif
    &scalar_kernels};

const Kernels* best() noexcept {
  for (const Kernels* candidate : kAll) {
    if (candidate->supported()) {
      return candidate;
    }
  }
  return &scalar_kernels;
}

std::atomic<const Kernels*>& chosen() noexcept {
  static std::atomic<const Kernels*> current{best()};
  return current;
}

}  // namespace

const Kernels& kernels() noexcept { return *chosen().load(std::memory_order_relaxed); }

namespace {

bool always() { return true; }

void split_scalar(const std::uint8_t* rgb, std::size_t pixels, std::uint8_t* const planes[3]) {
  for (std::size_t x = 0; x < pixels; ++x) {
    planes[0][x] = rgb[3 * x];
    planes[1][x] = rgb[3 * x + 1];
    planes[2][x] = rgb[3 * x + 2];
  }
}

void join_scalar(const std::uint8_t* const planes[3], std::size_t pixels, std::uint8_t* rgb) {
  for (std::size_t x = 0; x < pixels; ++x) {
    rgb[3 * x] = planes[0][x];
    rgb[3 * x + 1] = planes[1][x];
    rgb[3 * x + 2] = planes[2][x];
  }
}

void horizontal_scalar(const std::uint8_t* const planes[3], int origin, const HorizontalWeights& packed,
                       std::uint8_t* rgb) {
  const Coefficients& axis = *packed.axis;
  for (int i = 0; i < axis.outputs(); ++i) {
    const auto index = static_cast<std::size_t>(i);
    const std::int32_t* weights = &axis.weights[index * static_cast<std::size_t>(axis.taps)];
    const int first = axis.first[index] - origin;
    for (int c = 0; c < 3; ++c) {
      std::int32_t sum = kHalf;
      for (int k = 0; k < axis.count[index]; ++k) {
        sum += planes[c][first + k] * weights[k];
      }
      rgb[3 * i + c] = to_pixel(sum);
    }
  }
}

void vertical_scalar(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, int count,
                     std::size_t bytes, std::uint8_t* out) {
  for (std::size_t i = 0; i < bytes; ++i) {
    std::int32_t sum = kHalf;
    for (int k = 0; k < count; ++k) {
      sum += rows[static_cast<std::size_t>(k) * stride + i] * weights[k];
    }
    out[i] = to_pixel(sum);
  }
}

void normalise_scalar(const std::uint8_t* plane, std::size_t pixels, const Normalisation& normalisation, float* out) {
  for (std::size_t x = 0; x < pixels; ++x) {
    out[x] = normalisation.table[plane[x]];
  }
}

}  // namespace

const Kernels scalar_kernels = {"scalar",          WeightForm::whole, always,           split_scalar, join_scalar,
                                horizontal_scalar, vertical_scalar,   normalise_scalar, nullptr};

Normalisation make_normalisation(float mean, float std, const Kernels& kernels) {
  Normalisation normalisation{{}, mean, std, 1.0F / std};
  std::array<std::uint8_t, 256> values{};
  for (std::size_t v = 0; v < values.size(); ++v) {
    values[v] = static_cast<std::uint8_t>(v);
    const float scaled = static_cast<float>(v) / 255.0F;
    const float centred = scaled - mean;
    normalisation.table[v] = centred / std;
  }
  std::array<float, 256> computed{};
  normalisation.computable = true;
  kernels.normalise(values.data(), values.size(), normalisation, computed.data());
  // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): equal bits are what is asked for
  normalisation.computable = std::memcmp(computed.data(), normalisation.table.data(), sizeof computed) == 0;
  return normalisation;
}

}  // namespace vitrify::pixels

namespace vitrify {

std::vector<std::string> available_kernels() {
  std::vector<std::string> names;
  for (const pixels::Kernels* candidate : pixels::kAll) {
    if (candidate->supported()) {
      names.emplace_back(candidate->name);
    }
  }
  return names;
}

std::string kernels_in_use() { return pixels::kernels().name; }

bool use_kernels(const std::string& name) noexcept {
  for (const pixels::Kernels* candidate : pixels::kAll) {
    if (name == candidate->name && candidate->supported()) {
      pixels::chosen().store(candidate, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace vitrify
