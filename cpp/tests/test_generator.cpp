// The golden input of docs/reference/spec.md, as that page writes it in C, equals Python's.
//   test_generator GOLDEN_FOLDER
#include <cstdint>
#include <filesystem>

#include "check.hpp"
#include "golden.hpp"

namespace {

float golden_value(std::uint64_t seed, std::uint64_t cell, std::uint64_t c, std::uint64_t y, std::uint64_t x) {
  std::uint64_t z = (seed << 32) + (c << 28) + ((y / cell) << 14) + x / cell + 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  z = (z ^ (z >> 31)) >> 40;
  return static_cast<float>(static_cast<std::int64_t>(z) - (1 << 23)) / static_cast<float>(1 << 22);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: test_generator GOLDEN_FOLDER\n");
    return 2;
  }
  constexpr std::size_t channels = 3;
  constexpr std::size_t height = 5;
  constexpr std::size_t width = 7;
  const auto expected = vitrify::test::read_floats(std::filesystem::path(arguments[1]) / "generator.f32");
  CHECK(expected.size() == channels * height * width, "generator.f32 has another shape");
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const float value = golden_value(2, 3, i / (height * width), i / width % height, i % width);
    CHECK(value == expected[i], "value " + std::to_string(i));
  }
  return vitrify::test::check_result();
}
