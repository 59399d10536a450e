// The arithmetic of the GPU's preprocessing, run on the CPU tile by tile as a block of threads runs it, equals the CPU
// core to the last bit, though no more than the window that the plan asks for was decoded.
//   test_cuda GOLDEN_FOLDER
#include <algorithm>
#include <cstring>

#include "check.hpp"
#include "cuda_cases.hpp"
#include "reader.hpp"
#include "shares.hpp"
#include "tiles.hpp"
#ifdef VITRIFY_JPEG
#include "make_jpeg.hpp"
#endif

namespace {

using namespace vitrify;
using namespace vitrify::cuda;

bool same(const std::vector<float>& one, const std::vector<float>& other) {
  return one.size() == other.size() && std::memcmp(one.data(), other.data(), one.size() * sizeof(float)) == 0;
}

std::string named(const std::string& image, int orientation, const Preprocess& spec) {
  return image + ", orientation " + std::to_string(orientation) + ", rule " +
         std::to_string(static_cast<int>(spec.resize_rule)) + ", filter " +
         std::to_string(static_cast<int>(spec.interpolation));
}

bool inside(const Window& window, Size stored) {
  return window.column >= 0 && window.row >= 0 && window.size.width > 0 && window.size.height > 0 &&
         window.column + window.size.width <= stored.width && window.row + window.size.height <= stored.height;
}

void test_windows() {
  const auto cases = test::cuda_cases(64);
  std::size_t smaller = 0;
  for (const Preprocess& spec : test::cuda_specs()) {
    const Table table = normalised(spec);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const test::CudaCase& one = cases[i];
      const std::vector<float> expected = test::cpu_tensor(one, spec);
      for (const bool whole : {false, true}) {
        if (whole && i % 4 != 0) {
          continue;
        }
        Plan plan;
        const Window window = plan.add(one.stored.size, one.orientation, spec, whole);
        const std::string name = named("case " + std::to_string(i), one.orientation, spec);
        CHECK(inside(window, one.stored.size), name);
        const std::vector<std::uint8_t> pixels = test::cut(one.stored, window);
        CHECK(pixels.size() <= plan.pixel_bytes && (!whole || pixels.size() == one.stored.rgb.size()), name);
        smaller += pixels.size() < one.stored.rgb.size() ? 1 : 0;
        CHECK(same(test::run_tiles(plan.jobs[0], plan.numbers, pixels.data(), table, spec), expected), name);
      }
    }
  }
  CHECK(smaller > 400, std::to_string(smaller) + " windows are smaller than their images");
  std::printf("%zu images, %zu specs\n", cases.size(), test::cuda_specs().size());
}

// A window is what the CPU's pipeline asks its decoder for.
void test_window_of_the_cpu() {
  for (const Preprocess& spec : test::cuda_specs()) {
    for (const Size size : {Size{640, 480}, Size{300, 900}, Size{37, 36}, Size{36, 36}, Size{20, 10}}) {
      const Size resized = resized_size(size, spec);
      const pixels::Placement x = pixels::place(resized.width, spec.crop.width);
      const pixels::Placement y = pixels::place(resized.height, spec.crop.height);
      const pixels::Pipeline pipeline(size, resized, x.from, y.from, spec.interpolation);
      Plan plan;
      const Window window = plan.add(size, pixels::kUpright, spec);
      CHECK(window.column == pipeline.input_columns().begin && window.size.width == pipeline.input_columns().size() &&
                window.row == pipeline.input_rows().begin && window.size.height == pipeline.input_rows().size(),
            named(std::to_string(size.width) + "x" + std::to_string(size.height), 1, spec));
    }
  }
}

// Several images of a plan lie beside each other and none in the other's way.
void test_batch() {
  const auto cases = test::cuda_cases(40);
  const Preprocess spec = test::cuda_specs()[12];
  Plan plan;
  std::vector<Window> windows;
  for (const test::CudaCase& one : cases) {
    windows.push_back(plan.add(one.stored.size, one.orientation, spec));
  }
  std::vector<std::uint8_t> pixels(plan.pixel_bytes, 0xA5);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::vector<std::uint8_t> window = test::cut(cases[i].stored, windows[i]);
    std::copy(window.begin(), window.end(), pixels.begin() + static_cast<std::ptrdiff_t>(windows[i].at));
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    CHECK(same(test::run_tiles(plan.jobs[i], plan.numbers, pixels.data(), normalised(spec), spec),
               test::cpu_tensor(cases[i], spec)),
          "image " + std::to_string(i) + " of a batch");
  }
}

// Encoded images, whose decoders leave out what is beside the window.
void test_encoded(const std::string& name, const std::vector<std::uint8_t>& bytes, int& turn) {
  const auto specs = test::cuda_specs();
  const auto read = [&bytes](pixels::Range columns, pixels::Range rows) {
    std::vector<std::uint8_t> rgb(3 * static_cast<std::size_t>(columns.size()) * static_cast<std::size_t>(rows.size()));
    pixels::open(bytes.data(), bytes.size(), {})
        ->read(columns, rows, pixels::copy_to(rgb.data(), columns, rows.begin)(rows.begin));
    return rgb;
  };
  Image stored{pixels::open(bytes.data(), bytes.size(), {})->size(), {}};
  stored.rgb = read({0, stored.size.width}, {0, stored.size.height});
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Preprocess& spec = specs[static_cast<std::size_t>(turn++) % specs.size()];
    Plan plan;
    const Window window = plan.add(stored.size, orientation, spec);
    const std::vector<std::uint8_t> pixels =
        read({window.column, window.column + window.size.width}, {window.row, window.row + window.size.height});
    CHECK(pixels == test::cut(stored, window), "decoding " + named(name, orientation, spec));
    CHECK(same(test::run_tiles(plan.jobs[0], plan.numbers, pixels.data(), normalised(spec), spec),
               test::cpu_tensor({stored, orientation}, spec)),
          named(name, orientation, spec));
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: test_cuda GOLDEN_FOLDER\n");
    return 2;
  }
  test_windows();
  test_window_of_the_cpu();
  test_batch();
  int turn = 0;
  int images = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(arguments[1]) / "images")) {
    const auto bytes = test::read_file(entry.path());
    if (can_decode(format_of(bytes.data(), bytes.size()))) {
      test_encoded(entry.path().filename().string(), bytes, turn);
      ++images;
    }
  }
  CHECK(images > 5, "images to decode");
#ifdef VITRIFY_JPEG
  for (const auto& [horizontal, vertical] : {std::pair{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}}) {
    for (const bool progressive : {false, true}) {
      for (const Size size : {Size{511, 300}, Size{129, 640}, Size{400, 401}}) {
        const test::JpegKind kind{horizontal, vertical, false, progressive, 3};
        test_encoded("JPEG " + std::to_string(horizontal) + "x" + std::to_string(vertical),
                     test::make_jpeg(test::scene(size, static_cast<unsigned>(turn)), kind), turn);
        ++images;
      }
    }
  }
#endif
  std::printf("%d encoded images\n", images);
  return test::check_result();
}
