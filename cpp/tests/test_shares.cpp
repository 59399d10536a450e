// A JPEG whose rows several readers share gives what one reader gives, wherever it is parted: the same bytes, or the
// same error.
//   test_shares GOLDEN_FOLDER [CASES]
#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "make_jpeg.hpp"
#include "pipeline.hpp"
#include "reader.hpp"
#include "shares.hpp"
#include "vitrify/image.hpp"
#include "workers.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::test;
using pixels::Range;

using Bytes = std::vector<std::uint8_t>;

// What came out of a decode: bytes, or an error.
struct Outcome {
  Bytes bytes;
  std::string error;
  bool operator==(const Outcome& other) const { return bytes == other.bytes && error == other.error; }
};

Outcome outcome_of(const std::function<Bytes()>& work) {
  try {
    return {work(), {}};
  } catch (const ImageError& error) {
    return {{}, std::string("error: ") + error.what()};
  }
}

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int below(int limit) { return static_cast<int>(engine_() % static_cast<unsigned>(limit)); }
  int between(int least, int most) { return least + below(most - least + 1); }
  bool once_in(int times) { return below(times) == 0; }
  // A part of [0, size) that is not empty.
  Range part(int size) {
    const int begin = once_in(2) ? 0 : below(size);
    return {begin, once_in(2) ? size : between(begin + 1, size)};
  }
  // `count` shares of the rows, of which some may be as small as a row.
  std::vector<Range> shares(Range rows, int count) {
    std::vector<int> cuts;
    for (int i = 1; i < std::min(count, rows.size()); ++i) {
      cuts.push_back(between(rows.begin + 1, rows.end - 1));
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    std::vector<Range> parts;
    int begin = rows.begin;
    for (const int cut : cuts) {
      parts.push_back({begin, cut});
      begin = cut;
    }
    parts.push_back({begin, rows.end});
    return parts;
  }

 private:
  std::mt19937 engine_;  // the same everywhere; distributions are not
};

// How an image is asked for: a window of it as it is, or of a resize.
struct Request {
  Size resized;
  Range columns;  // of the resized image
  Range rows;
  Interpolation filter = Interpolation::bicubic;
  bool fast = false;
};

Request request_of(Random& random) {
  Request request;
  request.resized = {random.between(1, 90), random.between(1, 90)};
  request.columns = random.part(request.resized.width);
  request.rows = random.part(request.resized.height);
  request.filter = static_cast<Interpolation>(random.below(6));
  request.fast = random.once_in(3);
  return request;
}

// The requested window, by as many readers as there are shares of its rows.
Bytes resized(const Bytes& data, const Request& request, pixels::Workers& workers,
              const std::function<std::vector<Range>(Range rows)>& shares_of) {
  const auto reader = pixels::open_jpeg(data.data(), data.size(), {});
  const Size from = request.fast ? reader->scale_towards(request.resized) : reader->size();
  pixels::Pipeline pipeline(from, request.resized, request.columns, request.rows, request.filter);
  pixels::read_shares(
      *reader, pipeline.input_columns(), shares_of(pipeline.input_rows()),
      [&](int begin) -> pixels::RowSink {
        return [feed = pixels::Pipeline::Feed(pipeline, begin)](const pixels::Row& row) mutable { feed.push(row); };
      },
      workers);
  const std::size_t stride = 3 * static_cast<std::size_t>(request.columns.size());
  Bytes out(stride * static_cast<std::size_t>(request.rows.size()));
  for (int y = 0; y < request.rows.size(); ++y) {
    pipeline.row(y, out.data() + static_cast<std::size_t>(y) * stride);
  }
  return out;
}

bool can_be_shared(const Bytes& data) {
  const auto reader = pixels::open(data.data(), data.size(), {});
  return reader->row_cost({0, reader->size().width}).decode_ns > 0;
}

void test_request(const Bytes& data, const Request& request, Random& random, pixels::Workers& workers,
                  const std::string& what) {
  const auto one = [](Range rows) { return std::vector<Range>{rows}; };
  const Outcome alone = outcome_of([&] { return resized(data, request, workers, one); });
  for (int count = 2; count <= 5; ++count) {
    const auto some = [&](Range rows) { return random.shares(rows, count); };
    const Outcome shared = outcome_of([&] { return resized(data, request, workers, some); });
    CHECK(shared == alone, what + " in " + std::to_string(count) + " shares: " +
                               (shared.error == alone.error ? "other bytes" : shared.error + " for " + alone.error));
  }
}

void damage(Bytes& data, Random& random) {
  if (random.once_in(3)) {
    data.resize(static_cast<std::size_t>(random.between(2, static_cast<int>(data.size()))));
  }
  for (int i = random.below(4); i > 0; --i) {
    // Mostly what lies behind the header.
    const int size = static_cast<int>(data.size());
    const int at = random.once_in(4) || size < 700 ? random.below(size) : random.between(600, size - 1);
    data[static_cast<std::size_t>(at)] = static_cast<std::uint8_t>(random.once_in(3) ? 0xFF : random.below(256));
  }
}

void test_made(int cases, pixels::Workers& workers) {
  Random random(1);
  constexpr int samplings[][2] = {{1, 1}, {2, 1}, {2, 2}, {1, 2}, {4, 1}};
  int damaged = 0;
  for (int i = 0; i < cases; ++i) {
    const Size size{random.between(1, random.once_in(2) ? 40 : 300), random.between(1, random.once_in(2) ? 60 : 400)};
    JpegKind kind;
    const auto& sampling = samplings[random.below(5)];
    kind.horizontal = sampling[0];
    kind.vertical = sampling[1];
    kind.grey = random.once_in(6);
    kind.restart = random.once_in(2) ? 0 : static_cast<unsigned>(random.between(1, 40));
    kind.quality = random.between(20, 100);
    Bytes data = make_jpeg(scene(size, static_cast<unsigned>(i)), kind);
    const std::string what = std::to_string(i) + ": " + std::to_string(size.width) + " x " +
                             std::to_string(size.height) + ", " + std::to_string(kind.horizontal) + " x " +
                             std::to_string(kind.vertical) + (kind.grey ? ", grey" : "");
    CHECK(can_be_shared(data), what + " can be shared");
    test_request(data, request_of(random), random, workers, what);
    damage(data, random);
    try {
      if (!can_be_shared(data)) {
        continue;
      }
    } catch (const ImageError&) {
      continue;
    }
    ++damaged;
    test_request(data, request_of(random), random, workers, what + ", damaged");
  }
  std::printf("%d made images, and %d of them damaged\n", cases, damaged);
}

// Images cut off at every byte of their lower half, or of the last few, with an end put there or none, or with other
// markers in their midst.
void test_every_end(pixels::Workers& workers) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    JpegKind kind;
    kind.grey = seed % 2 == 0;
    kind.quality = 60;
    const Size size{40, 120};
    const Bytes whole = make_jpeg(scene(size, seed), kind);
    const std::size_t cuts = seed < 2 ? whole.size() * 2 / 5 : 4;
    const auto outcome = [&](const Bytes& data, const std::vector<Range>& shares) {
      const Request request{size, {0, size.width}, {0, shares.back().end}};
      return outcome_of([&] { return resized(data, request, workers, [&](Range) { return shares; }); });
    };
    for (std::size_t at = whole.size() - 2; at + 2 + cuts > whole.size(); --at) {
      const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at));
      std::vector<Bytes> files = {cut};
      for (const int marker : {0xD9, 0xD3, 0xFF}) {
        files.push_back(cut);
        files.back().insert(files.back().end(), {0xFF, static_cast<std::uint8_t>(marker)});
        files.push_back(files.back());
        files.back().insert(files.back().end(), whole.begin() + static_cast<std::ptrdiff_t>(at), whole.end());
      }
      for (std::size_t i = 0; i < files.size(); ++i) {
        for (const int end : {70, 100, size.height}) {
          const Outcome alone = outcome(files[i], {{0, end}});
          const Outcome shared = outcome(files[i], {{0, 65}, {65, end}});
          CHECK(shared == alone, "image " + std::to_string(seed) + " cut at " + std::to_string(at) + " of " +
                                     std::to_string(whole.size()) + ", end " + std::to_string(i) + " of " +
                                     std::to_string(end) + " rows: " + shared.error + " for " + alone.error);
        }
      }
    }
  }
}

void test_golden(const std::filesystem::path& folder, pixels::Workers& workers) {
  Random random(2);
  int shared = 0;
  for (const char* kind : {"images", "hostile"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder / kind)) {
      const Bytes data = read_file(entry.path());
      try {
        if (!can_decode(format_of(data.data(), data.size())) || !can_be_shared(data)) {
          continue;
        }
      } catch (const ImageError&) {
        continue;
      }
      ++shared;
      for (int i = 0; i < 10; ++i) {
        test_request(data, request_of(random), random, workers, entry.path().filename().string());
      }
    }
  }
  CHECK(shared > 5, "golden JPEGs that can be shared");
  std::printf("%d golden images\n", shared);
}

void test_what_cannot_be_shared() {
  JpegKind progressive;
  progressive.progressive = true;
  CHECK(!can_be_shared(make_jpeg(scene({64, 64}, 1), progressive)), "a progressive JPEG has one thread");
}

void test_turned_and_upright_on_threads() {
  Preprocess spec;
  spec.resize_box = {60, 60};
  spec.crop = {50, 50};
  Bytes data = make_jpeg(scene({1600, 1200}, 5), {});
  CHECK(pixels::share_out({0, 1200}, pixels::open(data.data(), data.size(), {})->row_cost({0, 1600}), 4).size() > 1,
        "it is large enough");
  // EXIF with nothing but an orientation of 6.
  const Bytes exif = {0xFF, 0xE1, 0,    34,   'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8,
                      0,    1,    0x01, 0x12, 0,   3,   0,   0,   0, 1, 0,   6,   0, 0,  0, 0, 0, 0};
  Bytes turned = data;
  turned.insert(turned.begin() + 2, exif.begin(), exif.end());
  CHECK(pixels::open(turned.data(), turned.size(), {})->orientation() == 6, "the EXIF is read");
  for (const Bytes& file : {data, turned}) {
    for (const bool fast : {false, true}) {
      DecodeOptions options;
      options.fast = fast;
      std::vector<float> expected(3 * 50 * 50);
      preprocess_encoded(file.data(), file.size(), spec, options, expected.data());
      for (int threads = 2; threads <= 6; ++threads) {
        std::vector<float> got(expected.size());
        preprocess_encoded(file.data(), file.size(), spec, options, got.data(), threads);
        CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0,
              std::to_string(threads) + " threads");
      }
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: test_shares GOLDEN_FOLDER [CASES]\n");
    return 2;
  }
  pixels::Workers workers(4);
  // The scalar kernels leave every JPEG to libjpeg.
  for (const std::string& kernels : {available_kernels().front(), std::string("scalar")}) {
    use_kernels(kernels);
    test_what_cannot_be_shared();
    test_turned_and_upright_on_threads();
    test_golden(arguments[1], workers);
    test_every_end(workers);
    test_made(count > 2 ? std::stoi(arguments[2]) : 400, workers);
  }
  return check_result();
}
