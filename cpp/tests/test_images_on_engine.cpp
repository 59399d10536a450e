// A classifier over an engine that prepares images itself, as one on a GPU does: every answer is the same, and so is
// every error.
//   test_images_on_engine GOLDEN_FOLDER
#include <memory>
#include <mutex>

#include "check.hpp"
#include "engines.hpp"
#include "golden_sources.hpp"
#include "make_jpeg.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::test;

void compare(const std::vector<Answer>& answers, const std::vector<Answer>& expected) {
  CHECK(answers.size() == expected.size(), "an answer for each");
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const auto* one = std::get_if<Prediction>(&answers[i]);
    const auto* other = std::get_if<Prediction>(&expected[i]);
    CHECK((one == nullptr) == (other == nullptr), "image " + std::to_string(i));
    if (one != nullptr && other != nullptr) {
      CHECK(same(*one, *other), "logits of image " + std::to_string(i));
    } else if (one == nullptr && other == nullptr) {
      CHECK(std::string(std::get<ImageError>(answers[i]).what()) == std::get<ImageError>(expected[i]).what(),
            "error of image " + std::to_string(i));
    }
  }
}

void test_answers(const std::filesystem::path& folder, const ModelSpec& spec) {
  ClassifierOptions options;
  options.threads = 3;
  options.pixels = PixelsOn::cpu;
  const Classifier on_cpu(spec, std::make_unique<PreparingEngine>(spec), options);
  options.pixels = PixelsOn::automatic;
  const Classifier on_engine(spec, std::make_unique<PreparingEngine>(spec), options);
  CHECK(on_engine.pixels_on_gpu() && !on_cpu.pixels_on_gpu(), "who prepares");
  CHECK(on_engine.batches_at_once() == 2, "one batch is decoded while another one is on the GPU");
  std::vector<ImageSource> sources = sources_of(folder);
  const std::vector<std::uint8_t> pixels(3 * 50 * 40, 77);
  sources.push_back(ImageSource::rgb(pixels.data(), {50, 40}));
  sources.push_back(ImageSource::rgb(pixels.data(), {0, 40}));
  const std::vector<Answer> expected = on_cpu.classify(sources);
  compare(on_engine.classify(sources), expected);

  options.jpeg_decoder = JpegDecoder::nvjpeg;
  auto engine = std::make_unique<PreparingEngine>(spec, true);
  const PreparingEngine& counted = *engine;
  const Classifier own_jpegs(spec, std::move(engine), options);
  compare(own_jpegs.classify(sources), expected);
  CHECK(counted.decoded > 5 && counted.decoded < sources.size() / 2,
        std::to_string(counted.decoded) + " JPEGs decoded by the engine");
}

// Only what GPUs decode is offered to them, and nothing that the limits refuse.
void test_who_decodes(const ModelSpec& spec) {
  const auto decoded = [&](std::vector<std::uint8_t> bytes, const DecodeLimits& limits = {}) {
    ClassifierOptions options;
    options.decode.limits = limits;
    auto engine = std::make_unique<PreparingEngine>(spec, true);
    const PreparingEngine& counted = *engine;
    const Classifier classifier(spec, std::move(engine), options);
    static_cast<void>(classifier.classify(std::vector<ImageSource>{ImageSource::encoded(bytes.data(), bytes.size())}));
    return counted.decoded.load();
  };
  const Image image = scene({90, 70}, 1);
  JpegKind kind;
  CHECK(decoded(make_jpeg(image, kind)) == 1, "baseline");
  kind.grey = true;
  CHECK(decoded(make_jpeg(image, kind)) == 1, "grey");
  kind.grey = false;
  kind.progressive = true;
  CHECK(decoded(make_jpeg(image, kind)) == 0, "progressive");
  CHECK(decoded(make_jpeg(image, {4, 1})) == 0, "4:1:1");
  auto bytes = make_jpeg(image, {});
  DecodeLimits limits;
  limits.max_pixels = 90 * 70 - 1;
  CHECK(decoded(bytes, limits) == 0, "beyond the limits");
  bytes.resize(bytes.size() - 2);
  CHECK(decoded(bytes) == 0, "without an end");
}

void test_options(const ModelSpec& spec) {
  ClassifierOptions options;
  options.decode.fast = true;
  CHECK(!Classifier(spec, std::make_unique<PreparingEngine>(spec), options).pixels_on_gpu(),
        "fast decoding is the CPU's");
  options.pixels = PixelsOn::gpu;
  for (const bool fast : {true, false}) {
    options.decode.fast = fast;
    try {
      if (fast) {
        const Classifier refused(spec, std::make_unique<PreparingEngine>(spec), options);
      } else {
        const Classifier refused(spec, std::make_unique<MeansEngine>(spec), options);
      }
      CHECK(false, "pixels on a GPU that cannot be were accepted");
    } catch (const OptionError&) {
    }
  }
  options = {};
  options.jpeg_decoder = JpegDecoder::nvjpeg;
  for (const bool on_cpu : {true, false}) {
    options.pixels = on_cpu ? PixelsOn::cpu : PixelsOn::automatic;
    try {
      const Classifier refused(spec, std::make_unique<PreparingEngine>(spec, on_cpu), options);
      CHECK(false, "a decoder that is not there was accepted");
    } catch (const OptionError&) {
    }
  }
  options.jpeg_decoder = JpegDecoder::automatic;
  CHECK(Classifier(spec, std::make_unique<MeansEngine>(spec), options).batches_at_once() == 1, "as many as streams");
}

// It hears of every batch once.
void test_observer(const std::filesystem::path& folder, const ModelSpec& spec) {
  const std::vector<ImageSource> sources = sources_of(folder);
  for (const PixelsOn pixels : {PixelsOn::cpu, PixelsOn::automatic}) {
    std::mutex mutex;
    std::vector<StageTimes> heard;
    ClassifierOptions options;
    options.batch_size = 7;
    options.pixels = pixels;
    options.observer = [&](const StageTimes& times) {
      const std::lock_guard lock(mutex);
      heard.push_back(times);
    };
    const Classifier classifier(spec, std::make_unique<PreparingEngine>(spec), options);
    static_cast<void>(classifier.classify(sources));
    CHECK(heard.size() == (sources.size() + 6) / 7, std::to_string(heard.size()) + " batches");
    for (const StageTimes& times : heard) {
      CHECK(times.decode > 0 && times.post >= 0 && times.nvjpeg == 0, "the stages of a batch");
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: test_images_on_engine GOLDEN_FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder = arguments[1];
  const ModelSpec spec = read_spec((folder / "tiny.onnx").string());
  test_answers(folder, spec);
  test_who_decodes(spec);
  test_options(spec);
  test_observer(folder, spec);
  return check_result();
}
