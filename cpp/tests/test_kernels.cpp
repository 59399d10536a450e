// Every kernel that this processor runs gives the bytes of the scalar one, which are Pillow's (tests/pixels says so).
//   test_kernels [CASES]
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "kernels.hpp"
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

// Any mean and deviation, however odd: the scalar kernel's table. Ordinary ones are computed, not looked up.
void test_normalisation() {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> odd = {0.0F, 1.0F, -0.25F, 1e-40F, 1e-30F, 3e38F, inf, -inf, std::nanf("")};
  std::mt19937 random(2);
  std::vector<std::uint8_t> plane(1000);
  for (std::uint8_t& value : plane) {
    value = static_cast<std::uint8_t>(random() % 256);
  }
  const auto fraction = [&random] { return static_cast<float>(random() % 10'000'000) / 1e7F; };
  std::vector<float> expected(plane.size());
  std::vector<float> got(plane.size());
  for (std::size_t i = 0; i < 2000; ++i) {
    const bool ordinary = i >= odd.size() * odd.size();
    const float mean = ordinary ? fraction() : odd[i / odd.size()];
    const float std = ordinary ? 0.05F + fraction() : odd[i % odd.size()];
    for (const std::string& name : available_kernels()) {
      CHECK(use_kernels(name), name);
      const pixels::Kernels& kernels = pixels::kernels();
      const pixels::Normalisation normalisation = pixels::make_normalisation(mean, std, kernels);
      const std::size_t pixels = plane.size() - i % 32;
      pixels::scalar_kernels.normalise(plane.data(), pixels, normalisation, expected.data());
      kernels.normalise(plane.data(), pixels, normalisation, got.data());
      const std::string what = name + ": mean " + std::to_string(mean) + ", std " + std::to_string(std);
      CHECK(std::memcmp(got.data(), expected.data(), pixels * sizeof(float)) == 0, what);
      CHECK(normalisation.computable || !ordinary, what + " is looked up");
    }
  }
}

// A row whose last output reads far less than others: nothing beyond the row may be read for it.
void test_short_last_output() {
  for (const int width : {90, 300, 600, 1999}) {
    for (const Size to : {Size{1, 2}, Size{2, 2}, Size{3, 2}, Size{5, 2}}) {
      std::mt19937 random(3);
      const Size from{width, 2};
      const std::vector<std::uint8_t> rgb = picture(random, from);
      for (int filter = 1; filter < 6; ++filter) {
        CHECK(use_kernels("scalar"), "the scalar kernels are always there");
        const Image expected = resize(rgb.data(), from, to, static_cast<Interpolation>(filter));
        for (const std::string& kernel : available_kernels()) {
          CHECK(use_kernels(kernel), kernel);
          CHECK(resize(rgb.data(), from, to, static_cast<Interpolation>(filter)).rgb == expected.rgb,
                kernel + ": " + text_of(from) + " to " + text_of(to));
        }
      }
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
  test_normalisation();
  test_short_last_output();
  std::printf("%d cases on", cases);
  for (const std::string& kernel : available_kernels()) {
    std::printf(" %s", kernel.c_str());
  }
  std::printf("\n");
  return vitrify::test::check_result();
}
