// The golden images decode to Pillow's pixels and become timm's tensors, to the last bit, on every kernel and from
// several threads at once; hostile ones are errors.
//   test_golden GOLDEN_FOLDER
#include <cstring>
#include <filesystem>
#include <thread>

#include "check.hpp"
#include "golden.hpp"
#include "vitrify/image.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::test;

bool readable(const std::vector<std::uint8_t>& data) { return can_decode(format_of(data.data(), data.size())); }

void test_decode(const std::filesystem::path& folder, const std::vector<Case>& cases) {
  int skipped = 0;
  for (const Case& one : cases) {
    const auto data = read_file(folder / "images" / one.name);
    if (!readable(data)) {
      ++skipped;
      continue;
    }
    const Image image = decode(data.data(), data.size());
    CHECK(image.size.width == one.size.width && image.size.height == one.size.height, one.name + ": size");
    CHECK(fnv1a(image.rgb) == one.hash, one.name + ": pixels");
  }
  std::printf("%zu images, of which this build cannot read %d\n", cases.size(), skipped);
}

void test_tensors(const std::filesystem::path& folder, const std::vector<Case>& cases, const Spec& spec) {
  const std::vector<float> expected = read_floats(folder / (spec.name + ".f32"));
  const auto values = static_cast<std::size_t>(3 * spec.preprocess.crop.width * spec.preprocess.crop.height);
  CHECK(expected.size() == values * cases.size(), spec.name + ".f32 has another number of tensors");
  std::vector<float> tensor(values);
  for (std::size_t i = 0; i < cases.size() && expected.size() == values * cases.size(); ++i) {
    const auto data = read_file(folder / "images" / cases[i].name);
    if (readable(data)) {
      preprocess_encoded(data.data(), data.size(), spec.preprocess, {}, tensor.data());
      CHECK(std::memcmp(tensor.data(), &expected[i * values], values * sizeof(float)) == 0,
            cases[i].name + " as " + spec.name + " on " + kernels_in_use());
    }
  }
}

void test_hostile(const std::filesystem::path& folder, const Spec& spec) {
  std::vector<float> tensor(static_cast<std::size_t>(3 * spec.preprocess.crop.width * spec.preprocess.crop.height));
  for (const auto& entry : std::filesystem::directory_iterator(folder / "hostile")) {
    const auto data = read_file(entry.path());
    for (const bool whole : {true, false}) {
      try {
        if (whole) {
          static_cast<void>(decode(data.data(), data.size()));
        } else {
          preprocess_encoded(data.data(), data.size(), spec.preprocess, {}, tensor.data());
        }
        CHECK(false, entry.path().filename().string() + " was accepted");
      } catch (const ImageError& error) {
        CHECK(!error.problem().empty(), entry.path().filename().string() + " has no message");
      }
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: test_golden GOLDEN_FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder = arguments[1];
  const std::vector<Case> cases = read_cases(folder);
  const std::vector<Spec> specs = read_specs(folder);
  CHECK(!cases.empty() && !specs.empty(), "no golden files");
  test_decode(folder, cases);
  for (const std::string& kernel : available_kernels()) {
    CHECK(use_kernels(kernel), kernel);
    std::vector<std::thread> threads;
    for (const Spec& spec : specs) {
      threads.emplace_back([&] { test_tensors(folder, cases, spec); });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    std::printf("%zu specs on %s\n", specs.size(), kernel.c_str());
  }
  if (!specs.empty()) {
    test_hostile(folder, specs.front());
  }
  return check_result();
}
