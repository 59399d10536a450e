// AVX2: 16-bit digits of the weights through pmaddwd. This file alone is built with -mavx2.
#include "kernels_x86.hpp"

#include <immintrin.h>

#include <array>
#include <vector>

namespace vitrify::pixels {
namespace {

bool supported() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
         __builtin_cpu_supports("bmi2") != 0;
}

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

// The three shuffles back, for each register of 48 bytes of RGB.
constexpr SplitMasks make_join_masks() {
  SplitMasks masks;
  for (std::size_t channel = 0; channel < 3; ++channel) {
    for (std::size_t part = 0; part < 3; ++part) {
      for (std::size_t lane = 0; lane < 16; ++lane) {
        const std::size_t byte = 16 * part + lane;
        masks.bytes[channel][part][lane] =
            static_cast<std::int8_t>(byte % 3 == channel ? static_cast<int>(byte / 3) : -1);
      }
    }
  }
  return masks;
}

constexpr SplitMasks kJoinMasks = make_join_masks();

// One output after the other, for strong reductions with many taps.
void horizontal_dot(const std::uint8_t* const planes[3], int origin, const HorizontalWeights& packed,
                    std::uint8_t* rgb) {
  const Coefficients& axis = *packed.axis;
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  // Looked up once: what is stored as bytes might be any of it.
  const int* const firsts = axis.first.data();
  const int* const counts = axis.count.data();
  const std::size_t stride = packed.stride;
  const std::int16_t* low = packed.low.data();
  const std::int16_t* high = packed.high.data();
  for (std::size_t i = 0; i < outputs; ++i, low += stride, high += stride) {
    const int first = firsts[i] - origin;
    const auto count = static_cast<std::size_t>(counts[i]);
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
    store_pixel(lows[0], lows[1], lows[2], i + 1 == outputs, rgb + 3 * i);
  }
}

// Four bytes of red, four of green, eight of blue, of which every `width`-th counts, to RGB.
struct InterleaveMasks {
  alignas(16) std::array<std::array<std::uint8_t, 16>, 2> bytes{};  // for a width of 1 and 2
};

constexpr InterleaveMasks make_interleave_masks() {
  InterleaveMasks masks;
  for (std::size_t power = 0; power < 2; ++power) {
    for (std::size_t byte = 0; byte < 3 * (4U >> power); ++byte) {
      masks.bytes[power][byte] = static_cast<std::uint8_t>(byte % 3 * 4 + (byte / 3 << power));
    }
  }
  return masks;
}

constexpr InterleaveMasks kInterleaveMasks = make_interleave_masks();

__m256i both(const void* low, const void* high) {
  const __m256i half = _mm256_castsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(low)));
  return _mm256_inserti128_si256(half, _mm_loadu_si128(static_cast<const __m128i*>(high)), 1);
}

// A block of 8 >> Power outputs at once: a shuffle brings 2 << Power taps of each together.
template <int Power>
void horizontal_gathered(const std::uint8_t* const planes[3], int origin, const HorizontalWeights& packed,
                         std::uint8_t* rgb) {
  constexpr std::size_t members = 4U >> Power;  // of each half
  constexpr std::size_t step_taps = 2U << Power;
  const Coefficients& axis = *packed.axis;
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  const auto* mask = reinterpret_cast<const __m128i*>(kInterleaveMasks.bytes[Power].data());
  const __m256i interleave = _mm256_broadcastsi128_si256(_mm_load_si128(mask));
  const std::int16_t* low = packed.low.data();
  const std::int16_t* high = packed.high.data();
  const std::uint8_t* index = packed.index.data();
  const int* const firsts = axis.first.data();
  const std::size_t steps = packed.steps;
  for (std::size_t i = 0; i < outputs; i += 2 * members, index += 32) {
    const __m256i spread = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index));
    const int first = firsts[i] - origin;
    const int second = firsts[i + members < outputs ? i + members : i] - origin;
    __m256i lows[3] = {};
    __m256i highs[3] = {};
    for (std::size_t step = 0; step < steps; ++step, low += 16, high += 16) {
      const __m256i low_weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(low));
      const __m256i high_weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high));
      for (int c = 0; c < 3; ++c) {
        const std::uint8_t* plane = planes[c] + step * step_taps;
        const __m256i values = _mm256_shuffle_epi8(both(plane + first, plane + second), spread);
        lows[c] = _mm256_add_epi32(lows[c], _mm256_madd_epi16(values, low_weights));
        highs[c] = _mm256_add_epi32(highs[c], _mm256_madd_epi16(values, high_weights));
      }
    }
    for (int c = 0; c < 3; ++c) {
      lows[c] = _mm256_add_epi32(lows[c], _mm256_slli_epi32(highs[c], 11));
      if constexpr (Power == 1) {
        lows[c] = _mm256_add_epi32(lows[c], _mm256_shuffle_epi32(lows[c], _MM_SHUFFLE(2, 3, 0, 1)));
      }
      lows[c] = _mm256_srai_epi32(_mm256_add_epi32(lows[c], _mm256_set1_epi32(kHalf)), kPrecisionBits);
    }
    const __m256i pixels = _mm256_shuffle_epi8(
        _mm256_packus_epi16(_mm256_packs_epi32(lows[0], lows[1]), _mm256_packs_epi32(lows[2], lows[2])), interleave);
    // A half's store spills beyond its pixels: what follows in the row overwrites it, and the row's end has none.
    alignas(32) std::array<std::uint8_t, 32> end;
    const bool fits = 3 * (outputs - i) >= 3 * members + 16;
    std::uint8_t* to = fits ? rgb + 3 * i : end.data();
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(pixels));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 3 * members), _mm256_extracti128_si256(pixels, 1));
    if (!fits) {
      std::memcpy(rgb + 3 * i, end.data(), 3 * (outputs - i < 2 * members ? outputs - i : 2 * members));
    }
  }
}

void horizontal(const std::uint8_t* const planes[3], int origin, const HorizontalWeights& packed, std::uint8_t* rgb) {
  switch (packed.block) {
    case 8:
      return horizontal_gathered<0>(planes, origin, packed, rgb);
    case 4:
      return horizontal_gathered<1>(planes, origin, packed, rgb);
    default:
      return horizontal_dot(planes, origin, packed, rgb);
  }
}

// Two weights as the pairs of 16-bit digits that vpmaddwd takes.
struct PairedWeights {
  std::int32_t low;
  std::int32_t high;
};

PairedWeights paired(std::int32_t first, std::int32_t second) {
  const std::int32_t low[2] = {((first + 1024) & 2047) - 1024, ((second + 1024) & 2047) - 1024};
  const std::int32_t high[2] = {(first - low[0]) >> 11, (second - low[1]) >> 11};
  const auto joined = [](const std::int32_t digits[2]) {
    return static_cast<std::int32_t>((static_cast<std::uint32_t>(digits[0]) & 0xFFFFU) |
                                     static_cast<std::uint32_t>(digits[1]) << 16);
  };
  return {joined(low), joined(high)};
}

// 32 bytes of the row at once. Unpacking brings two rows' bytes of a column together, in quarters; packing undoes it.
void vertical(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, int count, std::size_t bytes,
              std::uint8_t* out) {
  const int pairs = (count + 1) / 2;
  thread_local std::vector<PairedWeights> memory;
  memory.resize(static_cast<std::size_t>(pairs));
  PairedWeights* const digits = memory.data();  // looked up once: a thread's own variables cost a call
  for (int p = 0; p < pairs; ++p) {
    digits[p] = paired(weights[2 * p], 2 * p + 1 < count ? weights[2 * p + 1] : 0);
  }
  const __m256i zero = _mm256_setzero_si256();
  std::size_t i = 0;
  for (; i + 32 <= bytes; i += 32) {
    __m256i low[4] = {};
    __m256i high[4] = {};
    for (int p = 0; p < pairs; ++p) {
      const int second = 2 * p + 1 < count ? 2 * p + 1 : 2 * p;  // its weight is zero where there is no such row
      const std::uint8_t* column = rows + i;
      const __m256i row0 =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(column + static_cast<std::size_t>(2 * p) * stride));
      const __m256i row1 =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(column + static_cast<std::size_t>(second) * stride));
      const __m256i first = _mm256_unpacklo_epi8(row0, row1);
      const __m256i last = _mm256_unpackhi_epi8(row0, row1);
      const __m256i values[4] = {_mm256_unpacklo_epi8(first, zero), _mm256_unpackhi_epi8(first, zero),
                                 _mm256_unpacklo_epi8(last, zero), _mm256_unpackhi_epi8(last, zero)};
      const __m256i low_weights = _mm256_set1_epi32(digits[p].low);
      const __m256i high_weights = _mm256_set1_epi32(digits[p].high);
      for (int quarter = 0; quarter < 4; ++quarter) {
        low[quarter] = _mm256_add_epi32(low[quarter], _mm256_madd_epi16(values[quarter], low_weights));
        high[quarter] = _mm256_add_epi32(high[quarter], _mm256_madd_epi16(values[quarter], high_weights));
      }
    }
    __m256i sums[4];
    for (int quarter = 0; quarter < 4; ++quarter) {
      const __m256i sum = _mm256_add_epi32(low[quarter], _mm256_slli_epi32(high[quarter], 11));
      sums[quarter] = _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(kHalf)), kPrecisionBits);
    }
    // Saturating packs are clip8.
    const __m256i pixels =
        _mm256_packus_epi16(_mm256_packs_epi32(sums[0], sums[1]), _mm256_packs_epi32(sums[2], sums[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), pixels);
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
    _mm256_storeu_ps(out + x,
                     divided(centred, _mm256_set1_ps(normalisation.std), _mm256_set1_ps(normalisation.inverse_std)));
  }
  scalar_kernels.normalise(plane + x, pixels - x, normalisation, out + x);
}

}  // namespace

void join_avx2(const std::uint8_t* const planes[3], std::size_t pixels, std::uint8_t* rgb) {
  std::size_t x = 0;
  for (; x + 16 <= pixels; x += 16) {
    for (std::size_t part = 0; part < 3; ++part) {
      __m128i bytes = _mm_setzero_si128();
      for (std::size_t channel = 0; channel < 3; ++channel) {
        const __m128i plane = _mm_loadu_si128(reinterpret_cast<const __m128i*>(planes[channel] + x));
        const auto* mask = reinterpret_cast<const __m128i*>(kJoinMasks.bytes[channel][part].data());
        bytes = _mm_or_si128(bytes, _mm_shuffle_epi8(plane, _mm_load_si128(mask)));
      }
      _mm_storeu_si128(reinterpret_cast<__m128i*>(rgb + 3 * x) + part, bytes);
    }
  }
  const std::uint8_t* const rest[3] = {planes[0] + x, planes[1] + x, planes[2] + x};
  scalar_kernels.join(rest, pixels - x, rgb + 3 * x);
}

const Kernels avx2_kernels = {"avx2",    WeightForm::gathered_words, supported, split, join_avx2, horizontal, vertical,
                              normalise, &avx2_jpeg_kernels};

}  // namespace vitrify::pixels
