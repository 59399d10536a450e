// Every kernel that this processor runs gives the bytes of the scalar one, which are Pillow's (tests/pixels says so).
//   test_kernels [CASES]
#include <cstdint>
#include <random>
#include <vector>

#include "check.hpp"
#include "vitrify/image.hpp"

namespace {

using namespace vitrify;

// Noise, or the full contrast at which filters overshoot. std::mt19937 is the same everywhere; distributions are not.
std::vector<std::uint8_t> picture(std::mt19937& random, Size size) {
  std::vector<std::uint8_t> rgb(3 * static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height));
  const bool contrast = random() % 2 == 0;
  for (std::uint8_t& value : rgb) {
    value = static_cast<std::uint8_t>(contrast ? random() % 2 * 255 : random() % 256);
  }
  return rgb;
}

// Small sides as often as large ones.
int side(std::mt19937& random, int largest) {
  int limit = largest;
  while (limit > 1 && random() % 2 == 0) {
    limit /= 2;
  }
  return 1 + static_cast<int>(random() % static_cast<unsigned>(limit));
}

std::string text_of(Size size) { return std::to_string(size.width) + " x " + std::to_string(size.height); }

void test_equality(int cases) {
  std::mt19937 random(1);
  for (int i = 0; i < cases; ++i) {
    const Size from{side(random, i % 20 == 0 ? 3000 : 300), side(random, 300)};
    const Size to{side(random, 200), side(random, 200)};
    const auto filter = static_cast<Interpolation>(random() % 6);
    const std::vector<std::uint8_t> rgb = picture(random, from);
    CHECK(use_kernels("scalar"), "the scalar kernels are always there");
    const Image expected = resize(rgb.data(), from, to, filter);
    for (const std::string& kernel : available_kernels()) {
      CHECK(use_kernels(kernel), kernel);
      CHECK(resize(rgb.data(), from, to, filter).rgb == expected.rgb, kernel + ": " + text_of(from) + " to " +
                                                                          text_of(to) + ", filter " +
                                                                          std::to_string(static_cast<int>(filter)));
    }
  }
}

void test_names() {
  const std::string before = kernels_in_use();
  CHECK(!use_kernels("abacus"), "an unknown name was taken");
  CHECK(kernels_in_use() == before, "an unknown name changed something");
  CHECK(available_kernels().back() == "scalar", "the scalar kernels come last");
}

}  // namespace

int main(int count, char** arguments) {
  const int cases = count > 1 ? std::stoi(arguments[1]) : 600;
  test_names();
  test_equality(cases);
  std::printf("%d cases on", cases);
  for (const std::string& kernel : available_kernels()) {
    std::printf(" %s", kernel.c_str());
  }
  std::printf("\n");
  return vitrify::test::check_result();
}
