#include <cstddef>

#include "vitrify/spec.hpp"

namespace vitrify {

// One step of SplitMix64 a square of pixels; docs/reference/spec.md has the formula.
std::vector<float> golden_input(Size size, std::uint32_t seed, std::uint32_t cell) {
  if (cell == 0) {
    throw OptionError("a golden vector's cell has no size", "0", "1 pixel or more");
  }
  std::vector<float> values;
  values.reserve(3 * static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height));
  for (std::uint64_t channel = 0; channel < 3; ++channel) {
    for (std::uint64_t row = 0; row < static_cast<std::uint64_t>(size.height); ++row) {
      for (std::uint64_t column = 0; column < static_cast<std::uint64_t>(size.width); ++column) {
        std::uint64_t z =
            (std::uint64_t{seed} << 32) + (channel << 28) + ((row / cell) << 14) + column / cell + 0x9E3779B97F4A7C15U;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
        z = (z ^ (z >> 31)) >> 40;
        values.push_back(static_cast<float>(static_cast<std::int64_t>(z) - (1 << 23)) / static_cast<float>(1 << 22));
      }
    }
  }
  return values;
}

}  // namespace vitrify
