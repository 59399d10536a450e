// The classifier over an engine that counts and computes by a formula, so that sanitizers see all of it; and, where
// this build has an engine, over tiny.onnx.
//   test_classifier GOLDEN_FOLDER
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <thread>

#include "check.hpp"
#include "engines.hpp"
#include "golden_sources.hpp"
#include "vitrify/classifier.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::test;

// A batch gives for each image what the image alone gives, and unreadable ones disturb nobody.
void test_batches(const std::filesystem::path& folder, const ModelSpec& spec) {
  ClassifierOptions options;
  options.batch_size = 5;
  options.threads = 3;
  auto engine = std::make_unique<MeansEngine>(spec);
  const MeansEngine& counted = *engine;
  const Classifier classifier(spec, std::move(engine), options);
  const std::vector<ImageSource> sources = sources_of(folder);
  const std::vector<Answer> answers = classifier.classify(sources);
  std::size_t failed = 0;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const std::string& path = std::get<std::string>(sources[i].value());
    try {
      const Prediction alone = classifier.classify(sources[i]);
      const auto* prediction = std::get_if<Prediction>(&answers[i]);
      CHECK(prediction != nullptr && same(*prediction, alone), path);
    } catch (const ImageError& error) {
      ++failed;
      const auto* failure = std::get_if<ImageError>(&answers[i]);
      CHECK(failure != nullptr && failure->what() == std::string(error.what()), path);
      CHECK(error.problem().find(path) != std::string::npos, error.problem() + " does not name " + path);
    }
  }
  CHECK(failed > 20 && failed < sources.size() / 2, std::to_string(failed) + " unreadable images");
  CHECK(counted.largest_batch == 5, "the batch size");
  CHECK(classifier.classify(std::vector<ImageSource>{}).empty(), "no images");
}

void test_kinds_of_source(const std::filesystem::path& folder, const ModelSpec& spec) {
  const Classifier classifier(spec, std::make_unique<MeansEngine>(spec));
  const std::string path = (folder / "images" / "exif6.jpg").string();
  const auto bytes = read_file(path);
  const Image image = decode(bytes.data(), bytes.size());
  const Prediction from_file = classifier.classify(ImageSource::file(path));
  CHECK(same(from_file, classifier.classify(ImageSource::encoded(bytes.data(), bytes.size()))), "encoded");
  CHECK(same(from_file, classifier.classify(ImageSource::rgb(image.rgb.data(), image.size))), "rgb");
  for (const Size size : {Size{0, 3}, Size{3, -1}}) {
    try {
      static_cast<void>(classifier.classify(ImageSource::rgb(image.rgb.data(), size)));
      CHECK(false, "a size without pixels was accepted");
    } catch (const ImageError&) {
    }
  }
}

void test_threads(const std::filesystem::path& folder, const ModelSpec& spec) {
  ClassifierOptions options;
  options.threads = 4;
  const Classifier classifier(spec, std::make_unique<MeansEngine>(spec), options);
  const std::vector<ImageSource> sources = sources_of(folder);
  const std::vector<Answer> expected = classifier.classify(sources);
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      const std::vector<Answer> answers = classifier.classify(sources);
      for (std::size_t j = 0; j < sources.size(); ++j) {
        const auto* one = std::get_if<Prediction>(&answers[j]);
        const auto* other = std::get_if<Prediction>(&expected[j]);
        CHECK((one == nullptr) == (other == nullptr) && (one == nullptr || same(*one, *other)), "between threads");
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

void test_labels(ModelSpec spec) {
  ClassifierOptions options;
  options.top_k = 3;
  const auto top = [&](const std::vector<float>& logits) {
    return Classifier(spec, std::make_unique<FixedEngine>(logits), options).interpret(logits.data()).top;
  };
  auto best = top({1, 3, 2, 3, -1, 0});
  CHECK(best.size() == 3 && best[0].index == 1 && best[1].index == 3 && best[2].index == 2, "ties keep their order");
  // softmax of (1, 3, 2, 3, -1, 0) in exact arithmetic: e^3 / sum
  const double sum = std::exp(-2.0) + 1 + std::exp(-1.0) + 1 + std::exp(-4.0) + std::exp(-3.0);
  CHECK(std::fabs(best[0].probability - 1 / sum) < 1e-15, "softmax");
  CHECK(top({1000, 0, 0, 0, 0, -1000})[0].probability == 1.0, "large logits");
  spec.output.task = Task::multi_label;
  CHECK(std::fabs(top({2, 0, 0, 0, 0, 0})[0].probability - 1 / (1 + std::exp(-2.0))) < 1e-15, "sigmoid");
  CHECK(top({-1000, -1000, -1000, -1000, -1000, 1000})[0].probability == 1.0, "sigmoid of large logits");
  spec.output.kind = OutputKind::probabilities;
  best = top({0.1F, 0, 0.7F, 0.1F, 0.1F, 0});
  CHECK(best[0].index == 2 && best[0].probability == static_cast<double>(0.7F) && best[1].index == 0, "as they are");
  options.top_k = 100;
  CHECK(top({1, 2, 3, 4, 5, 6}).size() == 6, "no more than there are");
}

void test_verify(const ModelSpec& spec) {
  const auto verify = [&](float error) {
    std::vector<float> logits = spec.golden[0].logits;
    logits[0] += error;
    ModelSpec one = spec;
    one.golden.resize(1);
    return Classifier(one, std::make_unique<FixedEngine>(logits)).verify();
  };
  const float first = std::fabs(spec.golden[0].logits[0]);
  const float allowed = 1e-4F + 1e-3F * first;
  CHECK(verify(0).passed && verify(0).comparisons == 2, "the golden logits themselves");
  CHECK(verify(0.9F * allowed).passed && !verify(1.1F * allowed).passed, "the gate is where the format says");
  CHECK(!verify(std::numeric_limits<float>::quiet_NaN()).passed, "a logit that is no number");
  CHECK(!verify(1e3F).top1_agrees, "another best label");
  ModelSpec none = spec;
  none.golden.clear();
  try {
    static_cast<void>(Classifier(none, std::make_unique<MeansEngine>(spec)).verify());
    CHECK(false, "no golden vectors were enough");
  } catch (const SpecError&) {
  }
}

void test_options(const ModelSpec& spec) {
  for (auto change : {+[](ClassifierOptions& o) { o.batch_size = 0; }, +[](ClassifierOptions& o) { o.top_k = 0; },
                      +[](ClassifierOptions& o) { o.threads = -1; }}) {
    ClassifierOptions options;
    change(options);
    try {
      const Classifier refused(spec, std::make_unique<MeansEngine>(spec), options);
      CHECK(false, "an option that cannot be was accepted");
    } catch (const OptionError&) {
    }
  }
}

void test_engines(const std::filesystem::path& folder) {
  const std::string path = (folder / "tiny.onnx").string();
  const auto refused = [&](auto change) {
    ClassifierOptions options;
    change(options);
    try {
      static_cast<void>(Classifier::load(path, options));
    } catch (const OptionError&) {
      return true;
    }
    return false;
  };
  CHECK(refused([](ClassifierOptions& options) { options.runtime = "abacus"; }), "an unknown runtime");
  if (available_runtimes().empty()) {
    CHECK(refused([](ClassifierOptions& /*options*/) {}), "a build without an engine says so");
    return;
  }
  CHECK(refused([](ClassifierOptions& options) { options.precision = Precision::int8; }), "a precision it has not");
  CHECK(refused([](ClassifierOptions& options) { options.streams = 0; }), "no streams");
  for (const int streams : {1, 2}) {
    ClassifierOptions options;
    options.precision = Precision::fp32;
    options.streams = streams;
    const Classifier classifier = Classifier::load(path, options);
    const GoldenReport report = classifier.verify();
    CHECK(report.passed && report.comparisons == 6,
          "golden logits, error " + std::to_string(report.max_absolute_error));
    const std::vector<ImageSource> sources = sources_of(folder);
    const std::vector<Answer> expected = classifier.classify(sources);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (std::size_t j = 0; j < sources.size(); ++j) {
          if (const auto* prediction = std::get_if<Prediction>(&expected[j])) {
            const Prediction alone = classifier.classify(sources[j]);
            for (std::size_t k = 0; k < alone.logits.size(); ++k) {
              CHECK(std::fabs(alone.logits[k] - prediction->logits[k]) < 1e-5F, "alone and in a batch");
            }
          }
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: test_classifier GOLDEN_FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder = arguments[1];
  const ModelSpec spec = read_spec((folder / "tiny.onnx").string());
  test_batches(folder, spec);
  test_kinds_of_source(folder, spec);
  test_threads(folder, spec);
  test_labels(spec);
  test_verify(spec);
  test_options(spec);
  test_engines(folder);
  return check_result();
}
