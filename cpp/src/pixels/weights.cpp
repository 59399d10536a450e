// The weights of the horizontal pass, in the order in which each instruction set takes them.
#include <algorithm>
#include <cstdint>

#include "kernels.hpp"

namespace vitrify::pixels {
namespace {

// weight = low + high * 2^11
struct Words {
  std::int16_t low;
  std::int16_t high;
};

Words words_of(std::int32_t weight) {
  const std::int32_t low = ((weight + 1024) & 2047) - 1024;
  return {static_cast<std::int16_t>(low), static_cast<std::int16_t>((weight - low) >> 11)};
}

// weight = digit0 + digit1 * 2^8 + digit2 * 2^16
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

std::size_t rounded_up(std::size_t number, std::size_t multiple) {
  return (number + multiple - 1) / multiple * multiple;
}

std::size_t longest(const Coefficients& axis) {
  return static_cast<std::size_t>(*std::max_element(axis.count.begin(), axis.count.end()));
}

// Whether any `block` neighbouring outputs have their first `taps` inputs more than `reach` apart.
bool reaches_too_far(const Coefficients& axis, std::size_t block, int taps, int reach) {
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  for (std::size_t i = 0; i < outputs; i += block) {
    const std::size_t last = std::min(i + block, outputs) - 1;
    if (axis.first[last] + std::min(axis.count[last], taps) - axis.first[i] > reach) {
      return true;
    }
  }
  return false;
}

// Whether as many taps as the longest output has, read for each, would lead beyond a plane's padding.
bool reads_beyond(const Coefficients& axis) {
  constexpr int slack = static_cast<int>(kPadding) - 2 * kShuffleReach;
  const int last = *std::max_element(axis.first.begin(), axis.first.end());
  return last + static_cast<int>(longest(axis)) > axis.input_end() + slack;
}

void pack_bytes(const Coefficients& axis, HorizontalWeights& packed) {
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  const auto taps = static_cast<std::size_t>(axis.taps);
  packed.stride = rounded_up(taps, 32);
  packed.digits.assign(outputs * 3 * packed.stride, 0);
  for (std::size_t i = 0; i < outputs; ++i) {
    for (std::size_t k = 0; k < taps; ++k) {
      const Digits digits = digits_of(axis.weights[i * taps + k]);
      for (std::size_t d = 0; d < 3; ++d) {
        packed.digits[(i * 3 + d) * packed.stride + k] = digits.value[d];
      }
    }
  }
}

void pack_gathered_bytes(const Coefficients& axis, std::size_t block, HorizontalWeights& packed) {
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  const auto taps = static_cast<std::size_t>(axis.taps);
  const std::size_t blocks = rounded_up(outputs, block) / block;
  const std::size_t width = 16 / block;
  packed.block = block;
  packed.steps = rounded_up(longest(axis), 4 * width) / (4 * width);
  packed.index.assign(blocks * packed.steps * 64, 0);
  packed.digits.assign(blocks * packed.steps * 192, 0);
  for (std::size_t i = 0; i < outputs; ++i) {
    const int offset = axis.first[i] - axis.first[i / block * block];
    for (std::size_t k = 0; k < static_cast<std::size_t>(axis.count[i]); ++k) {
      const std::size_t group = k / 4;
      const std::size_t step = i / block * packed.steps + group / width;
      const std::size_t byte = 4 * (i % block * width + group % width) + k % 4;
      packed.index[step * 64 + byte] = static_cast<std::uint8_t>(offset + static_cast<int>(k));
      const Digits digits = digits_of(axis.weights[i * taps + k]);
      for (std::size_t d = 0; d < 3; ++d) {
        packed.digits[step * 192 + 64 * d + byte] = digits.value[d];
      }
    }
  }
}

void pack_words(const Coefficients& axis, HorizontalWeights& packed) {
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  const auto taps = static_cast<std::size_t>(axis.taps);
  packed.stride = rounded_up(taps, 16);
  packed.low.assign(outputs * packed.stride, 0);
  packed.high.assign(outputs * packed.stride, 0);
  for (std::size_t i = 0; i < outputs; ++i) {
    for (std::size_t k = 0; k < taps; ++k) {
      const Words words = words_of(axis.weights[i * taps + k]);
      packed.low[i * packed.stride + k] = words.low;
      packed.high[i * packed.stride + k] = words.high;
    }
  }
}

void pack_gathered_words(const Coefficients& axis, std::size_t block, HorizontalWeights& packed) {
  const auto outputs = static_cast<std::size_t>(axis.outputs());
  const auto taps = static_cast<std::size_t>(axis.taps);
  const std::size_t members = block / 2;      // outputs of a half
  const std::size_t step_taps = 8 / members;  // taps of each output in a step
  const std::size_t blocks = rounded_up(outputs, block) / block;
  packed.block = block;
  packed.steps = rounded_up(longest(axis), step_taps) / step_taps;
  packed.index.assign(blocks * 32, 0x80);  // what makes vpshufb give a zero: the upper bytes of all words
  packed.low.assign(blocks * packed.steps * 16, 0);
  packed.high.assign(blocks * packed.steps * 16, 0);
  for (std::size_t i = 0; i < outputs; ++i) {
    const int offset = axis.first[i] - axis.first[i / members * members];
    const std::size_t word = i % block * step_taps;
    for (std::size_t k = 0; k < step_taps; ++k) {
      packed.index[i / block * 32 + 2 * (word + k)] = static_cast<std::uint8_t>(offset + static_cast<int>(k));
    }
    for (std::size_t k = 0; k < static_cast<std::size_t>(axis.count[i]); ++k) {
      const std::size_t step = i / block * packed.steps + k / step_taps;
      const Words words = words_of(axis.weights[i * taps + k]);
      packed.low[step * 16 + word + k % step_taps] = words.low;
      packed.high[step * 16 + word + k % step_taps] = words.high;
    }
  }
}

}  // namespace

HorizontalWeights pack_weights(const Coefficients& axis, WeightForm form) {
  HorizontalWeights packed;
  packed.axis = &axis;
  if (form == WeightForm::bytes) {
    for (const std::size_t block : {std::size_t{16}, std::size_t{8}, std::size_t{4}}) {
      if (!reaches_too_far(axis, block, axis.taps, kGatherReach)) {
        pack_gathered_bytes(axis, block, packed);
        return packed;
      }
    }
    pack_bytes(axis, packed);
  } else if (form == WeightForm::gathered_words) {
    for (const std::size_t block : {std::size_t{8}, std::size_t{4}}) {
      if (!reaches_too_far(axis, block / 2, static_cast<int>(16 / block), kShuffleReach) && !reads_beyond(axis)) {
        pack_gathered_words(axis, block, packed);
        return packed;
      }
    }
    pack_words(axis, packed);
  } else if (form == WeightForm::words) {
    pack_words(axis, packed);
  }
  return packed;
}

}  // namespace vitrify::pixels
