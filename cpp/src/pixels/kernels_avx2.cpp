// AVX2: 16-bit digits of the weights through pmaddwd. This file alone is built with -mavx2.
#include "kernels_x86.hpp"

#include <immintrin.h>

#include <array>

namespace vitrify::pixels {
namespace {

bool supported() { return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0; }

// 48 bytes of RGB to 16 bytes of one channel: three shuffles, one for each register, that together fill every lane.
struct SplitMasks {
  alignas(16) std::array<std::array<std::array<std::int8_t, 16>, 3>, 3> bytes{};  // [channel][register][lane]
};

constexpr SplitMasks make_split_masks() {
  SplitMasks masks;
  for (int channel = 0; channel < 3; ++channel) {
    for (int part = 0; part < 3; ++part) {
      for (int lane = 0; lane < 16; ++lane) {
        const int byte = 3 * lane + channel - 16 * part;
        masks.bytes[static_cast<std::size_t>(channel)][static_cast<std::size_t>(part)][static_cast<std::size_t>(lane)] =
            static_cast<std::int8_t>(byte >= 0 && byte < 16 ? byte : -1);
      }
    }
  }
  return masks;
}

constexpr SplitMasks kSplitMasks = make_split_masks();

void split(const std::uint8_t* rgb, std::size_t pixels, std::uint8_t* const planes[3]) {
  std::size_t x = 0;
  for (; x + 16 <= pixels; x += 16) {
    __m128i parts[3];
    for (int part = 0; part < 3; ++part) {
      parts[part] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rgb + 3 * x) + part);
    }
    for (std::size_t channel = 0; channel < 3; ++channel) {
      __m128i plane = _mm_setzero_si128();
      for (std::size_t part = 0; part < 3; ++part) {
        const auto* mask = reinterpret_cast<const __m128i*>(kSplitMasks.bytes[channel][part].data());
        plane = _mm_or_si128(plane, _mm_shuffle_epi8(parts[part], _mm_load_si128(mask)));
      }
      _mm_storeu_si128(reinterpret_cast<__m128i*>(planes[channel] + x), plane);
    }
  }
  std::uint8_t* rest[3] = {planes[0] + x, planes[1] + x, planes[2] + x};
  scalar_kernels.split(rgb + 3 * x, pixels - x, rest);
}

void horizontal(const std::uint8_t* const planes[3], int origin, const HorizontalWeights& packed, std::uint8_t* rgb) {
  const Coefficients& axis = *packed.axis;
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  for (std::size_t i = 0; i < outputs; ++i) {
    const int first = axis.first[i] - origin;
    const auto count = static_cast<std::size_t>(axis.count[i]);
    const std::int16_t* low = &packed.low[i * packed.stride];
    const std::int16_t* high = &packed.high[i * packed.stride];
    __m256i lows[3] = {};
    __m256i highs[3] = {};
    for (std::size_t k = 0; k < count; k += 16) {
      const __m256i low_weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(low + k));
      const __m256i high_weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high + k));
      for (int c = 0; c < 3; ++c) {
        const auto* at = reinterpret_cast<const __m128i*>(planes[c] + first + k);
        const __m256i values = _mm256_cvtepu8_epi16(_mm_loadu_si128(at));
        lows[c] = _mm256_add_epi32(lows[c], _mm256_madd_epi16(values, low_weights));
        highs[c] = _mm256_add_epi32(highs[c], _mm256_madd_epi16(values, high_weights));
      }
    }
    for (int c = 0; c < 3; ++c) {
      lows[c] = _mm256_add_epi32(lows[c], _mm256_slli_epi32(highs[c], 11));
    }
    store_pixel(lows[0], lows[1], lows[2], rgb + 3 * i);
  }
}

__m128i to_pixels(__m256i sums_low, __m256i sums_high) {
  // Saturating packs are clip8; they work in halves, which the permutation puts in order.
  const __m256i words =
      _mm256_packs_epi32(_mm256_srai_epi32(sums_low, kPrecisionBits), _mm256_srai_epi32(sums_high, kPrecisionBits));
  const __m256i ordered = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
  return _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
}

void vertical(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, int count, std::size_t bytes,
              std::uint8_t* out) {
  std::size_t i = 0;
  for (; i + 16 <= bytes; i += 16) {
    __m256i low[2] = {};
    __m256i high[2] = {};
    for (int k = 0; k < count; k += 2) {
      const bool pair = k + 1 < count;
      const std::int32_t weight0 = weights[k];
      const std::int32_t weight1 = pair ? weights[k + 1] : 0;
      const std::int32_t low0 = ((weight0 + 1024) & 2047) - 1024;
      const std::int32_t low1 = ((weight1 + 1024) & 2047) - 1024;
      const std::int32_t high0 = (weight0 - low0) >> 11;
      const std::int32_t high1 = (weight1 - low1) >> 11;
      const __m256i low_weights =
          _mm256_set1_epi32((low0 & 0xFFFF) | static_cast<std::int32_t>(static_cast<std::uint32_t>(low1) << 16));
      const __m256i high_weights =
          _mm256_set1_epi32((high0 & 0xFFFF) | static_cast<std::int32_t>(static_cast<std::uint32_t>(high1) << 16));
      const std::uint8_t* row = rows + static_cast<std::size_t>(k) * stride + i;
      const __m128i row0 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
      const __m128i row1 = pair ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + stride)) : _mm_setzero_si128();
      const __m256i values[2] = {_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(row0, row1)),
                                 _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(row0, row1))};
      for (int half = 0; half < 2; ++half) {
        low[half] = _mm256_add_epi32(low[half], _mm256_madd_epi16(values[half], low_weights));
        high[half] = _mm256_add_epi32(high[half], _mm256_madd_epi16(values[half], high_weights));
      }
    }
    __m256i sums[2];
    for (int half = 0; half < 2; ++half) {
      sums[half] =
          _mm256_add_epi32(_mm256_add_epi32(low[half], _mm256_slli_epi32(high[half], 11)), _mm256_set1_epi32(kHalf));
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), to_pixels(sums[0], sums[1]));
  }
  scalar_kernels.vertical(rows + i, stride, weights, count, bytes - i, out + i);
}

// Multiplying by the inverse and correcting the quotient by its remainder is a correctly rounded division (Markstein,
// IBM J. Res. Dev. 34, 1990), at a fraction of its time.
__m256 divided(__m256 dividend, __m256 divisor, __m256 inverse) {
  const __m256 quotient = _mm256_mul_ps(dividend, inverse);
  return _mm256_fmadd_ps(_mm256_fnmadd_ps(quotient, divisor, dividend), inverse, quotient);
}

void normalise(const std::uint8_t* plane, std::size_t pixels, const Normalisation& normalisation, float* out) {
  std::size_t x = 0;
  for (; normalisation.computable && x + 8 <= pixels; x += 8) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(plane + x));
    const __m256 values = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
    const __m256 scaled = divided(values, _mm256_set1_ps(255.0F), _mm256_set1_ps(1.0F / 255.0F));
    const __m256 centred = _mm256_sub_ps(scaled, _mm256_set1_ps(normalisation.mean));
    _mm256_storeu_ps(out + x, divided(centred, _mm256_set1_ps(normalisation.std),
                                      _mm256_set1_ps(normalisation.inverse_std)));
  }
  scalar_kernels.normalise(plane + x, pixels - x, normalisation, out + x);
}

}  // namespace

const Kernels avx2_kernels = {"avx2", WeightForm::words, supported, split, horizontal, vertical, normalise};

}  // namespace vitrify::pixels
