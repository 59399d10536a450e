// The file that keeps which algorithms made a network fastest: what comes back, and what is taken for none. Needs no
// GPU.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "engines/cuda/tunings.hpp"

namespace {

using namespace vitrify::engines;
namespace fs = std::filesystem;

void require(bool holds, const std::string& what) {
  if (!holds) {
    std::fprintf(stderr, "%s\n", what.c_str());
    std::exit(1);
  }
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

Tuning example() {
  Tuning tuning;
  tuning.piece = 128;
  ProductShape shape;
  shape.rows = 25216;
  shape.outputs = 3072;
  shape.inputs = 768;
  shape.operands = Number::e4m3;
  shape.result = Number::e4m3;
  shape.epilogue = Epilogue::gelu_bias;
  shape.x_row = 768;
  shape.c_row = shape.d_row = std::int64_t{1} << 40;
  Algorithm algorithm;
  for (std::size_t i = 0; i < algorithm.size(); ++i) {
    algorithm[i] = static_cast<std::uint8_t>(255 - 3 * i);
  }
  tuning.products.emplace_back(shape, algorithm);
  ProductShape other;
  other.rows = 197;
  other.adds = true;
  other.images = 64;
  other.x_image = 7;
  tuning.products.emplace_back(other, Algorithm{});
  return tuning;
}

bool same(const std::optional<Tuning>& got, const Tuning& expected) {
  if (!got || got->piece != expected.piece || got->products.size() != expected.products.size()) {
    return false;
  }
  for (std::size_t i = 0; i < expected.products.size(); ++i) {
    if (got->products[i].first.key() != expected.products[i].first.key() ||
        got->products[i].second != expected.products[i].second) {
      return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  const fs::path folder = fs::temp_directory_path() / ("vitrify-tunings-" + std::to_string(std::random_device()()));
  const Tunings tunings(folder / "not" / "yet");
  const std::string key = "gpu=one\nbatch=64\n";
  require(!tunings.read(key), "nothing was kept");
  const Tuning tuning = example();
  tunings.keep(key, tuning);
  require(same(tunings.read(key), tuning), "what was kept comes back");
  require(!tunings.read("gpu=another\nbatch=64\n"), "it is another key's");
  const fs::path path = tunings.file(key);
  require(std::distance(fs::directory_iterator(path.parent_path()), {}) == 1, "one file, and no part of one");
  require(path.filename().string().size() == 64 + 5, "the file is called by a digest");
  const std::string whole = text_of(path);

  // A file that was copied to another key's name.
  fs::copy_file(path, tunings.file("another"));
  require(!tunings.read("another"), "the key inside is another one");

  // Every byte changed, and every length: never another tuning, and no crash.
  std::mt19937 random(17);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ static_cast<char>(1 + random() % 255));
    write(path, damaged);
    const auto got = tunings.read(key);
    require(!got || same(got, tuning), "a damaged byte gives another tuning: " + std::to_string(i));
    write(path, whole.substr(0, i));
    const auto part = tunings.read(key);
    require(!part || same(part, tuning), "a truncated file gives another tuning: " + std::to_string(i));
  }
  for (const std::string& text : std::initializer_list<std::string>{
           "", "null", "[]", "{}", "\xff\xfe", std::string(1 << 12, '\0'), std::string(1 << 21, '['),
           R"({"key": "gpu=one\nbatch=64\n", "tuning": 3, "sha256": []})", whole + 'x'}) {
    write(path, text);
    require(!tunings.read(key), "this is no tuning: " + text.substr(0, 40));
  }
  // Values that no product has, in a file whose digest is right.
  const auto refused = [&](const char* what, auto change) {
    Tuning odd = tuning;
    change(odd);
    tunings.keep(key, odd);
    require(!tunings.read(key), what);
  };
  refused("no images", [](Tuning& odd) { odd.piece = 0; });
  refused("negative rows", [](Tuning& odd) { odd.products[0].first.rows = -1; });
  refused("a negative stride", [](Tuning& odd) { odd.products[1].first.x_image = -5; });
  refused("no such type", [](Tuning& odd) { odd.products[0].first.operands = static_cast<Number>(9); });
  refused("no such epilogue", [](Tuning& odd) { odd.products[0].first.epilogue = static_cast<Epilogue>(3); });
  refused("too many products", [](Tuning& odd) { odd.products.resize(2000); });
  tunings.keep(key, tuning);
  require(same(tunings.read(key), tuning), "a later opening repairs it");

  // Folders that take nothing are no failure.
  write(folder / "file", "");
  for (const Tunings& none : {Tunings(), Tunings(folder / "file"), Tunings("/proc/nowhere")}) {
    none.keep(key, tuning);
    require(!none.read(key), "nothing can be kept there");
  }
  fs::create_directories(tunings.file("folder"));
  require(!tunings.read("folder"), "a folder is no file");
  fs::remove_all(folder);
  return 0;
}
