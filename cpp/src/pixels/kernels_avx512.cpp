// AVX-512 with VNNI and VBMI: 8-bit digits of the weights through vpdpbusd, four products an instruction and lane.
// This file alone is built with those flags.
#include "kernels_x86.hpp"

#include <immintrin.h>

#include <array>

namespace vitrify::pixels {
namespace {

bool supported() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vbmi") != 0 &&
         __builtin_cpu_supports("avx512vnni") != 0;
}

// 192 bytes of RGB in three registers to 64 bytes of one channel: picked from the first two, then from the third.
struct SplitMasks {
  alignas(64) std::array<std::array<std::uint8_t, 64>, 3> first{};   // [channel][lane] index into registers 0 and 1
  alignas(64) std::array<std::array<std::uint8_t, 64>, 3> second{};  // index into that result (0-63) or register 2
};

constexpr SplitMasks make_split_masks() {
  SplitMasks masks;
  for (std::size_t channel = 0; channel < 3; ++channel) {
    for (std::size_t lane = 0; lane < 64; ++lane) {
      const std::size_t byte = 3 * lane + channel;
      masks.first[channel][lane] = static_cast<std::uint8_t>(byte < 128 ? byte : 0);
      masks.second[channel][lane] = static_cast<std::uint8_t>(byte < 128 ? lane : 64 + byte - 128);
    }
  }
  return masks;
}

constexpr SplitMasks kSplitMasks = make_split_masks();

void split(const std::uint8_t* rgb, std::size_t pixels, std::uint8_t* const planes[3]) {
  if (pixels < 64) {
    return scalar_kernels.split(rgb, pixels, planes);
  }
  for (std::size_t next = 0; next < pixels; next += 64) {
    const std::size_t x = next + 64 <= pixels ? next : pixels - 64;  // the last ones overlap those before
    const __m512i part0 = _mm512_loadu_si512(rgb + 3 * x);
    const __m512i part1 = _mm512_loadu_si512(rgb + 3 * x + 64);
    const __m512i part2 = _mm512_loadu_si512(rgb + 3 * x + 128);
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const __m512i first = _mm512_load_si512(kSplitMasks.first[channel].data());
      const __m512i second = _mm512_load_si512(kSplitMasks.second[channel].data());
      const __m512i begun = _mm512_permutex2var_epi8(part0, first, part1);
      _mm512_storeu_si512(planes[channel] + x, _mm512_permutex2var_epi8(begun, second, part2));
    }
  }
}

__m512i joined(__m512i digit0, __m512i digit1, __m512i digit2) {
  return _mm512_add_epi32(digit0, _mm512_add_epi32(_mm512_slli_epi32(digit1, 8), _mm512_slli_epi32(digit2, 16)));
}

__m256i joined(const __m256i digits[3]) {
  return _mm256_add_epi32(digits[0],
                          _mm256_add_epi32(_mm256_slli_epi32(digits[1], 8), _mm256_slli_epi32(digits[2], 16)));
}

// One output after the other, for strong reductions with many taps.
void horizontal_dot(const std::uint8_t* const planes[3], int origin, const HorizontalWeights& packed,
                    std::uint8_t* rgb) {
  const Coefficients& axis = *packed.axis;
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  for (std::size_t i = 0; i < outputs; ++i) {
    const int first = axis.first[i] - origin;
    const auto count = static_cast<std::size_t>(axis.count[i]);
    const std::int8_t* digits = &packed.digits[i * 3 * packed.stride];
    __m256i sums[3][3] = {};
    for (std::size_t k = 0; k < count; k += 32) {
      __m256i weights[3];
      for (std::size_t d = 0; d < 3; ++d) {
        weights[d] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(digits + d * packed.stride + k));
      }
      for (int c = 0; c < 3; ++c) {
        const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(planes[c] + first + k));
        for (int d = 0; d < 3; ++d) {
          sums[c][d] = _mm256_dpbusd_epi32(sums[c][d], values, weights[d]);
        }
      }
    }
    store_pixel(joined(sums[0]), joined(sums[1]), joined(sums[2]), i + 1 == outputs, rgb + 3 * i);
  }
}

// Four bytes of red, four of green, eight of blue, four times, of which every `width`-th counts, to RGB.
struct InterleaveMasks {
  alignas(64) std::array<std::array<std::uint8_t, 64>, 3> bytes{};  // for a width of 1, 2 and 4
};

constexpr InterleaveMasks make_interleave_masks() {
  InterleaveMasks masks;
  for (std::size_t power = 0; power < 3; ++power) {
    for (std::size_t byte = 0; byte < 3 * (16U >> power); ++byte) {
      const std::size_t place = byte / 3 << power;
      masks.bytes[power][byte] = static_cast<std::uint8_t>(place / 4 * 16 + byte % 3 * 4 + place % 4);
    }
  }
  return masks;
}

constexpr InterleaveMasks kInterleaveMasks = make_interleave_masks();

// The sums of each output's 1 << Power partial sums, which are neighbours, in all of their places.
template <int Power>
__m512i summed(__m512i sums) {
  if constexpr (Power >= 1) {
    sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_CDAB));
  }
  if constexpr (Power >= 2) {
    sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_BADC));
  }
  return sums;
}

// A block of 16 >> Power outputs at once: a permutation brings 4 << Power taps of each together.
template <int Power>
void horizontal_gathered(const std::uint8_t* const planes[3], int origin, const HorizontalWeights& packed,
                         std::uint8_t* rgb) {
  constexpr std::size_t block = 16U >> Power;
  const Coefficients& axis = *packed.axis;
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  const __m512i interleave = _mm512_load_si512(kInterleaveMasks.bytes[Power].data());
  const std::uint8_t* index = packed.index.data();
  const std::int8_t* digits = packed.digits.data();
  for (std::size_t i = 0; i < outputs; i += block) {
    const int first = axis.first[i] - origin;
    __m512i low[3];
    __m512i high[3];
    for (int c = 0; c < 3; ++c) {
      low[c] = _mm512_loadu_si512(planes[c] + first);
      high[c] = _mm512_loadu_si512(planes[c] + first + 64);
    }
    __m512i sums[3][3] = {};
    for (std::size_t step = 0; step < packed.steps; ++step, index += 64, digits += 192) {
      const __m512i places = _mm512_loadu_si512(index);
      __m512i weights[3];
      for (int d = 0; d < 3; ++d) {
        weights[d] = _mm512_loadu_si512(digits + 64 * d);
      }
      for (int c = 0; c < 3; ++c) {
        const __m512i values = _mm512_permutex2var_epi8(low[c], places, high[c]);
        for (int d = 0; d < 3; ++d) {
          sums[c][d] = _mm512_dpbusd_epi32(sums[c][d], values, weights[d]);
        }
      }
    }
    __m512i channel[3];
    for (int c = 0; c < 3; ++c) {
      const __m512i sum = summed<Power>(joined(sums[c][0], sums[c][1], sums[c][2]));
      channel[c] = _mm512_srai_epi32(_mm512_add_epi32(sum, _mm512_set1_epi32(kHalf)), kPrecisionBits);
    }
    const __m512i pixels =
        _mm512_packus_epi16(_mm512_packs_epi32(channel[0], channel[1]), _mm512_packs_epi32(channel[2], channel[2]));
    const std::size_t members = outputs - i < block ? outputs - i : block;
    const __mmask64 mask = (__mmask64{1} << (3 * members)) - 1;
    _mm512_mask_storeu_epi8(rgb + 3 * i, mask, _mm512_permutexvar_epi8(interleave, pixels));
  }
}

void horizontal(const std::uint8_t* const planes[3], int origin, const HorizontalWeights& packed, std::uint8_t* rgb) {
  switch (packed.block) {
    case 16:
      return horizontal_gathered<0>(planes, origin, packed, rgb);
    case 8:
      return horizontal_gathered<1>(planes, origin, packed, rgb);
    case 4:
      return horizontal_gathered<2>(planes, origin, packed, rgb);
    default:
      return horizontal_dot(planes, origin, packed, rgb);
  }
}

std::int32_t four_bytes(const std::int32_t* weights, int count, int shift) {
  // The digit at `shift` of up to four weights, in the order in which vpdpbusd takes them.
  std::uint32_t packed = 0;
  for (int k = 0; k < count; ++k) {
    std::int32_t rest = weights[k];
    std::int32_t digit = 0;
    for (int place = 0; place <= shift; place += 8) {
      digit = place == 16 ? rest : ((rest + 128) & 255) - 128;
      rest = (rest - digit) >> 8;
    }
    packed |= (static_cast<std::uint32_t>(digit) & 0xFFU) << (8 * k);
  }
  return static_cast<std::int32_t>(packed);
}

// 64 bytes of the row at once. Unpacking brings four rows' bytes of a column together, in quarters; packing undoes it.
void vertical(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, int count, std::size_t bytes,
              std::uint8_t* out) {
  const int groups = (count + 3) / 4;
  thread_local std::vector<std::array<std::int32_t, 3>> memory;
  memory.resize(static_cast<std::size_t>(groups));
  std::array<std::int32_t, 3>* const digits = memory.data();  // looked up once: a thread's own variables cost a call
  for (int g = 0; g < groups; ++g) {
    const int members = count - 4 * g < 4 ? count - 4 * g : 4;
    for (int d = 0; d < 3; ++d) {
      digits[g][static_cast<std::size_t>(d)] = four_bytes(weights + 4 * g, members, 8 * d);
    }
  }
  for (std::size_t i = 0; i < bytes; i += 64) {
    const std::size_t left = bytes - i;
    const __mmask64 mask = left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    __m512i sums[4][3] = {};
    for (int g = 0; g < groups; ++g) {
      __m512i row[4];
      for (int r = 0; r < 4; ++r) {
        const int k = 4 * g + r < count ? 4 * g + r : count - 1;  // its weight is zero where there is no such row
        row[r] = _mm512_maskz_loadu_epi8(mask, rows + static_cast<std::size_t>(k) * stride + i);
      }
      const __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]);
      const __m512i high01 = _mm512_unpackhi_epi8(row[0], row[1]);
      const __m512i low23 = _mm512_unpacklo_epi8(row[2], row[3]);
      const __m512i high23 = _mm512_unpackhi_epi8(row[2], row[3]);
      const __m512i values[4] = {_mm512_unpacklo_epi16(low01, low23), _mm512_unpackhi_epi16(low01, low23),
                                 _mm512_unpacklo_epi16(high01, high23), _mm512_unpackhi_epi16(high01, high23)};
      for (std::size_t d = 0; d < 3; ++d) {
        const __m512i weight = _mm512_set1_epi32(digits[g][d]);
        for (int quarter = 0; quarter < 4; ++quarter) {
          sums[quarter][d] = _mm512_dpbusd_epi32(sums[quarter][d], values[quarter], weight);
        }
      }
    }
    __m512i words[4];
    for (int quarter = 0; quarter < 4; ++quarter) {
      const __m512i sum = joined(sums[quarter][0], sums[quarter][1], sums[quarter][2]);
      words[quarter] = _mm512_srai_epi32(_mm512_add_epi32(sum, _mm512_set1_epi32(kHalf)), kPrecisionBits);
    }
    const __m512i pixels =
        _mm512_packus_epi16(_mm512_packs_epi32(words[0], words[1]), _mm512_packs_epi32(words[2], words[3]));
    _mm512_mask_storeu_epi8(out + i, mask, pixels);
  }
}

// Multiplying by the inverse and correcting the quotient by its remainder is a correctly rounded division (Markstein,
// IBM J. Res. Dev. 34, 1990), at a fraction of its time.
__m512 divided(__m512 dividend, __m512 divisor, __m512 inverse) {
  const __m512 quotient = _mm512_mul_ps(dividend, inverse);
  return _mm512_fmadd_ps(_mm512_fnmadd_ps(quotient, divisor, dividend), inverse, quotient);
}

void normalise(const std::uint8_t* plane, std::size_t pixels, const Normalisation& normalisation, float* out) {
  std::size_t x = 0;
  for (; normalisation.computable && x + 16 <= pixels; x += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(plane + x));
    const __m512 values = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
    const __m512 scaled = divided(values, _mm512_set1_ps(255.0F), _mm512_set1_ps(1.0F / 255.0F));
    const __m512 centred = _mm512_sub_ps(scaled, _mm512_set1_ps(normalisation.mean));
    _mm512_storeu_ps(out + x,
                     divided(centred, _mm512_set1_ps(normalisation.std), _mm512_set1_ps(normalisation.inverse_std)));
  }
  scalar_kernels.normalise(plane + x, pixels - x, normalisation, out + x);
}

}  // namespace

const Kernels avx512_kernels = {"avx512", WeightForm::bytes, supported,         split, join_avx2, horizontal,
                                vertical, normalise,         &avx2_jpeg_kernels};

}  // namespace vitrify::pixels
