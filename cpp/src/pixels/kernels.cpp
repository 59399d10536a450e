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

namespace {

struct Digits {
  std::int8_t value[3];
};

Digits digits_of(std::int32_t weight) {
  const std::int32_t digit0 = ((weight + 128) & 255) - 128;
  const std::int32_t rest = (weight - digit0) >> 8;
  const std::int32_t digit1 = ((rest + 128) & 255) - 128;
  return {{static_cast<std::int8_t>(digit0), static_cast<std::int8_t>(digit1),
           static_cast<std::int8_t>((rest - digit1) >> 8)}};
}

bool reaches_too_far(const Coefficients& axis, std::size_t block) {
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  for (std::size_t i = 0; i < outputs; i += block) {
    const std::size_t last = std::min(i + block, outputs) - 1;
    if (axis.first[last] + axis.count[last] - axis.first[i] > kGatherReach) {
      return true;
    }
  }
  return false;
}

void pack_gathered(const Coefficients& axis, std::size_t block, HorizontalWeights& packed) {
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  const auto taps = static_cast<std::size_t>(axis.taps);
  const std::size_t blocks = (outputs + block - 1) / block;
  const std::size_t width = 16 / block;
  packed.block = block;
  const auto longest = static_cast<std::size_t>(*std::max_element(axis.count.begin(), axis.count.end()));
  packed.steps = ((longest + 3) / 4 + width - 1) / width;
  packed.index.assign(blocks * packed.steps * 64, 0);
  packed.block_digits.assign(blocks * packed.steps * 192, 0);
  for (std::size_t i = 0; i < outputs; ++i) {
    const int offset = axis.first[i] - axis.first[i / block * block];
    for (std::size_t k = 0; k < static_cast<std::size_t>(axis.count[i]); ++k) {
      const std::size_t group = k / 4;
      const std::size_t step = i / block * packed.steps + group / width;
      const std::size_t byte = 4 * (i % block * width + group % width) + k % 4;
      packed.index[step * 64 + byte] = static_cast<std::uint8_t>(offset + static_cast<int>(k));
      const Digits digits = digits_of(axis.weights[i * taps + k]);
      for (std::size_t d = 0; d < 3; ++d) {
        packed.block_digits[step * 192 + 64 * d + byte] = digits.value[d];
      }
    }
  }
}

}  // namespace

const Kernels& kernels() noexcept { return *chosen().load(std::memory_order_relaxed); }

HorizontalWeights pack_weights(const Coefficients& axis, WeightForm form) {
  HorizontalWeights packed;
  packed.axis = &axis;
  if (form == WeightForm::whole) {
    return packed;
  }
  for (const std::size_t block : {std::size_t{16}, std::size_t{8}, std::size_t{4}}) {
    if (form == WeightForm::bytes && !reaches_too_far(axis, block)) {
      pack_gathered(axis, block, packed);
      return packed;
    }
  }
  const std::size_t vector = form == WeightForm::words ? 16 : 32;
  const auto taps = static_cast<std::size_t>(axis.taps);
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  packed.stride = (taps + vector - 1) / vector * vector;
  if (form == WeightForm::words) {
    packed.low.assign(outputs * packed.stride, 0);
    packed.high.assign(outputs * packed.stride, 0);
  } else {
    packed.digits.assign(outputs * 3 * packed.stride, 0);
  }
  for (std::size_t i = 0; i < outputs; ++i) {
    for (std::size_t k = 0; k < taps; ++k) {
      const std::int32_t weight = axis.weights[i * taps + k];
      if (form == WeightForm::words) {
        const std::int32_t low = ((weight + 1024) & 2047) - 1024;
        packed.low[i * packed.stride + k] = static_cast<std::int16_t>(low);
        packed.high[i * packed.stride + k] = static_cast<std::int16_t>((weight - low) >> 11);
      } else {
        const Digits digits = digits_of(weight);
        for (std::size_t d = 0; d < 3; ++d) {
          packed.digits[(i * 3 + d) * packed.stride + k] = digits.value[d];
        }
      }
    }
  }
  return packed;
}

namespace {

bool always() { return true; }

void split_scalar(const std::uint8_t* rgb, std::size_t pixels, std::uint8_t* const planes[3]) {
  for (std::size_t x = 0; x < pixels; ++x) {
    planes[0][x] = rgb[3 * x];
    planes[1][x] = rgb[3 * x + 1];
    planes[2][x] = rgb[3 * x + 2];
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

const Kernels scalar_kernels = {"scalar",          WeightForm::whole, always,          split_scalar, horizontal_scalar,
                                vertical_scalar, normalise_scalar};

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
