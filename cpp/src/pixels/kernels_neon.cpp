// NEON, which every 64-bit ARM processor has: 16-bit digits of the weights through widening multiply-adds.
#include "kernels.hpp"

#include <arm_neon.h>

namespace vitrify::pixels {
namespace {

bool supported() { return true; }

void split(const std::uint8_t* rgb, std::size_t pixels, std::uint8_t* const planes[3]) {
  std::size_t x = 0;
  for (; x + 16 <= pixels; x += 16) {
    const uint8x16x3_t part = vld3q_u8(rgb + 3 * x);
    for (int c = 0; c < 3; ++c) {
      vst1q_u8(planes[c] + x, part.val[c]);
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
    int32x4_t lows[3] = {};
    int32x4_t highs[3] = {};
    for (std::size_t k = 0; k < count; k += 8) {
      const int16x8_t low_weights = vld1q_s16(low + k);
      const int16x8_t high_weights = vld1q_s16(high + k);
      for (int c = 0; c < 3; ++c) {
        const int16x8_t values = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(planes[c] + first + k)));
        lows[c] = vmlal_s16(lows[c], vget_low_s16(values), vget_low_s16(low_weights));
        lows[c] = vmlal_high_s16(lows[c], values, low_weights);
        highs[c] = vmlal_s16(highs[c], vget_low_s16(values), vget_low_s16(high_weights));
        highs[c] = vmlal_high_s16(highs[c], values, high_weights);
      }
    }
    for (int c = 0; c < 3; ++c) {
      rgb[3 * i + static_cast<std::size_t>(c)] =
          to_pixel(vaddvq_s32(vaddq_s32(lows[c], vshlq_n_s32(highs[c], 11))) + kHalf);
    }
  }
}

// Fixed-point sums to eight pixels; the saturating narrowings are clip8.
uint8x8_t to_pixels(const int32x4_t low[2], const int32x4_t high[2]) {
  int16x4_t words[2];
  for (int half = 0; half < 2; ++half) {
    const int32x4_t sum = vaddq_s32(vaddq_s32(low[half], vshlq_n_s32(high[half], 11)), vdupq_n_s32(kHalf));
    words[half] = vqmovn_s32(vshrq_n_s32(sum, kPrecisionBits));
  }
  return vqmovun_s16(vcombine_s16(words[0], words[1]));
}

void vertical(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, int count, std::size_t bytes,
              std::uint8_t* out) {
  std::size_t i = 0;
  for (; i + 16 <= bytes; i += 16) {
    int32x4_t low[4] = {};
    int32x4_t high[4] = {};
    for (int k = 0; k < count; ++k) {
      const std::int32_t low_digit = ((weights[k] + 1024) & 2047) - 1024;
      const auto low_weight = static_cast<std::int16_t>(low_digit);
      const auto high_weight = static_cast<std::int16_t>((weights[k] - low_digit) >> 11);
      const uint8x16_t row = vld1q_u8(rows + static_cast<std::size_t>(k) * stride + i);
      const int16x8_t values[2] = {vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(row))),
                                   vreinterpretq_s16_u16(vmovl_high_u8(row))};
      for (int half = 0; half < 2; ++half) {
        low[2 * half] = vmlal_n_s16(low[2 * half], vget_low_s16(values[half]), low_weight);
        low[2 * half + 1] = vmlal_high_n_s16(low[2 * half + 1], values[half], low_weight);
        high[2 * half] = vmlal_n_s16(high[2 * half], vget_low_s16(values[half]), high_weight);
        high[2 * half + 1] = vmlal_high_n_s16(high[2 * half + 1], values[half], high_weight);
      }
    }
    vst1q_u8(out + i, vcombine_u8(to_pixels(low, high), to_pixels(low + 2, high + 2)));
  }
  scalar_kernels.vertical(rows + i, stride, weights, count, bytes - i, out + i);
}

// A correctly rounded division: see kernels_avx2.cpp.
float32x4_t divided(float32x4_t dividend, float divisor, float inverse) {
  const float32x4_t quotient = vmulq_n_f32(dividend, inverse);
  const float32x4_t remainder = vfmsq_f32(dividend, quotient, vdupq_n_f32(divisor));
  return vfmaq_f32(quotient, remainder, vdupq_n_f32(inverse));
}

void join(const std::uint8_t* const planes[3], std::size_t pixels, std::uint8_t* rgb) {
  scalar_kernels.join(planes, pixels, rgb);
}

void normalise(const std::uint8_t* plane, std::size_t pixels, const Normalisation& normalisation, float* out) {
  std::size_t x = 0;
  for (; normalisation.computable && x + 8 <= pixels; x += 8) {
    const uint16x8_t words = vmovl_u8(vld1_u8(plane + x));
    const uint32x4_t halves[2] = {vmovl_u16(vget_low_u16(words)), vmovl_high_u16(words)};
    for (std::size_t half = 0; half < 2; ++half) {
      const float32x4_t scaled = divided(vcvtq_f32_u32(halves[half]), 255.0F, 1.0F / 255.0F);
      const float32x4_t centred = vsubq_f32(scaled, vdupq_n_f32(normalisation.mean));
      vst1q_f32(out + x + 4 * half, divided(centred, normalisation.std, normalisation.inverse_std));
    }
  }
  scalar_kernels.normalise(plane + x, pixels - x, normalisation, out + x);
}

}  // namespace

const Kernels neon_kernels = {"neon",     WeightForm::words, supported, split,  join,
                              horizontal, vertical,          normalise, nullptr};

}  // namespace vitrify::pixels
