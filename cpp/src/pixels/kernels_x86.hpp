// What the AVX2 and AVX-512 kernels share. Included by files that are built with at least -mavx2, and by no others.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels.hpp"

namespace vitrify::pixels {

void join_avx2(const std::uint8_t* const planes[3], std::size_t pixels, std::uint8_t* rgb);

// Three sums of eight lanes each to one pixel, and unless it is the last, a byte of the next one, as three bytes take
// longer to write than four. Static on purpose: an inline function's one copy could be the AVX-512 build's, which an
// AVX2 processor cannot run.
static inline void store_pixel(__m256i red, __m256i green, __m256i blue, bool last, std::uint8_t* rgb) {
  const __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(red, green), _mm256_hadd_epi32(blue, blue));
  __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  sums = _mm_srai_epi32(_mm_add_epi32(sums, _mm_set1_epi32(kHalf)), kPrecisionBits);
  const __m128i words = _mm_packs_epi32(sums, sums);
  const std::int32_t pixel = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
  if (last) {
    std::memcpy(rgb, &pixel, 3);
  } else {
    std::memcpy(rgb, &pixel, 4);
  }
}

}  // namespace vitrify::pixels
