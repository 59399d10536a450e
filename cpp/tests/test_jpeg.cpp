// A JPEG's pixels are libjpeg's to the last bit, or its error is, whoever decodes it: whole, in part, damaged, or with
// coefficients that no photograph has.
//   test_jpeg GOLDEN_FOLDER [CASES]
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "golden.hpp"
#include "jpeg_baseline.hpp"
#include "kernels.hpp"
#include "make_jpeg.hpp"
#include "reader.hpp"
#include "shares.hpp"
#include "vitrify/image.hpp"
#include "workers.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::test;
using pixels::Range;

using Bytes = std::vector<std::uint8_t>;

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int below(int limit) { return static_cast<int>(engine_() % static_cast<unsigned>(limit)); }
  int between(int least, int most) { return least + below(most - least + 1); }
  bool once_in(int times) { return below(times) == 0; }
  Range part(int size) {
    const int begin = once_in(2) ? 0 : below(size);
    return {begin, once_in(2) ? size : between(begin + 1, size)};
  }

 private:
  std::mt19937 engine_;  // the same everywhere; distributions are not
};

struct Outcome {
  Bytes bytes;
  std::string error;
  bool operator==(const Outcome& other) const { return bytes == other.bytes && error == other.error; }
};

Outcome read(const Bytes& data, Range columns, Range rows, const std::string& kernels) {
  use_kernels(kernels);
  Outcome outcome;
  try {
    outcome.bytes.resize(3 * static_cast<std::size_t>(columns.size()) * static_cast<std::size_t>(rows.size()));
    pixels::open(data.data(), data.size(), {})
        ->read(columns, rows, pixels::copy_to(outcome.bytes.data(), columns, rows.begin)(rows.begin));
  } catch (const ImageError& error) {
    outcome = {{}, std::string("error: ") + error.what()};
  }
  use_kernels(available_kernels().front());
  return outcome;
}

// The scalar kernels leave every JPEG to libjpeg.
void compare(const Bytes& data, Random& random, const std::string& what) {
  Size size;
  try {
    size = pixels::open(data.data(), data.size(), {})->size();
  } catch (const ImageError&) {
    return;
  }
  for (int i = 0; i < 3; ++i) {
    const Range columns = i == 0 ? Range{0, size.width} : random.part(size.width);
    const Range rows = i == 0 ? Range{0, size.height} : random.part(size.height);
    const Outcome expected = read(data, columns, rows, "scalar");
    const Outcome got = read(data, columns, rows, available_kernels().front());
    CHECK(got == expected, what + ", columns " + std::to_string(columns.begin) + "-" + std::to_string(columns.end) +
                               ", rows " + std::to_string(rows.begin) + "-" + std::to_string(rows.end) + ": " +
                               (got.error == expected.error ? "other bytes" : got.error + " for " + expected.error));
  }
}

// Whether the fast decoder reads all of it, and so was what `compare` compared.
bool is_read_to_its_end(const Bytes& data) {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, data.data(), static_cast<unsigned long>(data.size()));
  jpeg_read_header(&info, TRUE);
  bool whole = false;
  if (pixels::BaselineJpeg::can_read(info)) {
    const auto jpeg = pixels::BaselineJpeg::make(info, data.data() + data.size());
    const int height = static_cast<int>(info.image_height);
    whole =
        jpeg != nullptr &&
        jpeg->read({0, static_cast<int>(info.image_width)}, {0, height}, [](const pixels::Row& /*row*/) {}) == height &&
        jpeg->finish();
  }
  jpeg_destroy_decompress(&info);
  return whole;
}

void damage(Bytes& data, Random& random) {
  if (random.once_in(4)) {
    data.resize(static_cast<std::size_t>(random.between(2, static_cast<int>(data.size()))));
  }
  if (random.once_in(6)) {
    data.insert(data.end(), static_cast<std::size_t>(random.between(1, 40)),
                static_cast<std::uint8_t>(random.below(256)));
  }
  for (int i = random.below(4); i > 0; --i) {
    // Mostly what lies behind the header.
    const int size = static_cast<int>(data.size());
    const int at = random.once_in(4) || size < 700 ? random.below(size) : random.between(600, size - 1);
    data[static_cast<std::size_t>(at)] = static_cast<std::uint8_t>(random.once_in(3) ? 0xFF : random.below(256));
  }
}

void test_made(int cases) {
  Random random(1);
  constexpr int samplings[][2] = {{1, 1}, {2, 1}, {2, 2}, {2, 2}, {1, 2}, {4, 1}};
  int fast = 0;
  for (int i = 0; i < cases; ++i) {
    const Size size{random.between(1, random.once_in(2) ? 40 : 300), random.between(1, random.once_in(2) ? 60 : 300)};
    JpegKind kind;
    const auto& sampling = samplings[random.below(6)];
    kind.horizontal = sampling[0];
    kind.vertical = sampling[1];
    kind.grey = random.once_in(12);
    kind.restart = random.once_in(12) ? static_cast<unsigned>(random.between(1, 40)) : 0;
    kind.quality = random.once_in(3) ? random.between(1, 30) : random.between(30, 100);
    kind.own_codes = random.once_in(2);
    const Bytes data = make_jpeg(scene(size, static_cast<unsigned>(i)), kind);
    const std::string what = std::to_string(i) + ": " + std::to_string(size.width) + " x " +
                             std::to_string(size.height) + ", " + std::to_string(kind.horizontal) + " x " +
                             std::to_string(kind.vertical) + ", quality " + std::to_string(kind.quality);
    const bool usual =
        size.width > 5 && !kind.grey && kind.restart == 0 && kind.horizontal <= 2 && kind.horizontal >= kind.vertical;
    CHECK(pixels::kernels().jpeg == nullptr || is_read_to_its_end(data) == usual, what + " is read fast");
    fast += usual ? 1 : 0;
    compare(data, random, what);
    for (int j = 0; j < 4; ++j) {
      Bytes other = data;
      damage(other, random);
      compare(other, random, what + ", damaged " + std::to_string(j));
    }
  }
  std::printf("%d made images, of which %d are usual, and four times as many damaged ones\n", cases, fast);
}

// Coefficients of any size, where sums wrap and saturate; a few of them, many, or a DC coefficient alone.
Bytes with_coefficients(Random& random, int horizontal, int vertical) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long bytes = 0;
  jpeg_mem_dest(&info, &memory, &bytes);
  info.image_width = 70;
  info.image_height = 50;
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, random.between(1, 100), TRUE);
  info.comp_info[0].h_samp_factor = horizontal;
  info.comp_info[0].v_samp_factor = vertical;
  jvirt_barray_ptr arrays[3];
  auto* const common = reinterpret_cast<j_common_ptr>(&info);
  const auto blocks_of = [&](int size, int factor, int most) {
    return static_cast<JDIMENSION>((size + 8 * most - 1) / (8 * most) * factor);
  };
  for (int c = 0; c < 3; ++c) {
    const jpeg_component_info& part = info.comp_info[c];
    arrays[c] = info.mem->request_virt_barray(common, JPOOL_IMAGE, TRUE, blocks_of(70, part.h_samp_factor, horizontal),
                                              blocks_of(50, part.v_samp_factor, vertical),
                                              static_cast<JDIMENSION>(part.v_samp_factor));
  }
  jpeg_write_coefficients(&info, arrays);
  const int largest = 1 << random.between(2, 9);
  for (int c = 0; c < 3; ++c) {
    const jpeg_component_info& part = info.comp_info[c];
    const JDIMENSION columns = blocks_of(70, part.h_samp_factor, horizontal);
    const JDIMENSION rows = blocks_of(50, part.v_samp_factor, vertical);
    for (JDIMENSION y = 0; y < rows; ++y) {
      JBLOCKARRAY row = info.mem->access_virt_barray(common, arrays[c], y, 1, TRUE);
      for (JDIMENSION x = 0; x < columns; ++x) {
        std::memset(row[0][x], 0, sizeof row[0][x]);
        row[0][x][0] = static_cast<JCOEF>(random.between(-largest, largest));
        for (int i = random.once_in(3) ? 0 : random.below(64); i > 0; --i) {
          row[0][x][random.below(64)] = static_cast<JCOEF>(random.between(-largest, largest));
        }
      }
    }
  }
  jpeg_finish_compress(&info);
  Bytes encoded(memory, memory + bytes);
  jpeg_destroy_compress(&info);
  std::free(memory);
  return encoded;
}

void test_coefficients(int cases) {
  Random random(2);
  for (int i = 0; i < cases; ++i) {
    const int horizontal = random.between(1, 2);
    const int vertical = random.between(1, horizontal);
    compare(with_coefficients(random, horizontal, vertical), random, "coefficients " + std::to_string(i));
  }
}

// Cut off at every byte of the end, with a marker there or none, and with something behind it.
void test_every_end() {
  Random random(3);
  for (unsigned seed = 0; seed < 40; ++seed) {
    JpegKind kind;
    kind.quality = 60;
    const Bytes whole = make_jpeg(scene({40, 40}, seed), kind);
    for (std::size_t cut = 0; cut < 12; ++cut) {
      Bytes data(whole.begin(), whole.end() - static_cast<std::ptrdiff_t>(cut));
      const std::string what = "image " + std::to_string(seed) + " less " + std::to_string(cut) + " bytes";
      compare(data, random, what);
      for (const int marker : {0xD9, 0xD3, 0xDA, 0xFF, 0x00, 0x5A}) {
        Bytes marked = data;
        marked.insert(marked.end(), {0xFF, static_cast<std::uint8_t>(marker)});
        compare(marked, random, what + " with a marker");
        marked.insert(marked.end(), whole.end() - 20, whole.end());
        compare(marked, random, what + " with a marker in its midst");
      }
    }
  }
}

void test_golden(const std::filesystem::path& folder) {
  Random random(4);
  for (const char* kind : {"images", "hostile"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder / kind)) {
      const Bytes data = read_file(entry.path());
      if (format_of(data.data(), data.size()) == Format::jpeg) {
        compare(data, random, entry.path().filename().string());
      }
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: test_jpeg GOLDEN_FOLDER [CASES]\n");
    return 2;
  }
  const int cases = count > 2 ? std::stoi(arguments[2]) : 400;
  test_golden(arguments[1]);
  test_every_end();
  test_coefficients(cases);
  test_made(cases);
  return check_result();
}
