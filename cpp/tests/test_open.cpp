// Opening, as a program sees it: processors that saturate, the self-test, and classifiers that were moved from or
// belong to another process.
//   test_open GOLDEN_FOLDER
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "check.hpp"
#include "machine/processor.hpp"
#include "vitrify/classifier.hpp"

namespace {

namespace fs = std::filesystem;
using namespace vitrify;
using namespace vitrify::test;

// The same logits whatever comes in.
class FixedEngine final : public Engine {
 public:
  explicit FixedEngine(std::vector<float> logits) : logits_(std::move(logits)) {}
  void infer(const float* /*tensors*/, std::size_t count, float* logits) override {
    for (std::size_t i = 0; i < count; ++i) {
      std::copy(logits_.begin(), logits_.end(), logits + i * logits_.size());
    }
  }
  [[nodiscard]] std::string name() const override { return "fixed"; }
  [[nodiscard]] std::string version() const override { return "1"; }

 private:
  std::vector<float> logits_;
};

Classifier fixed(const ModelSpec& spec, std::vector<float> logits) {
  return {spec, std::make_unique<FixedEngine>(std::move(logits))};
}

// A copy of the file with other bytes in the place of some, as many, and without the digest that would give it away.
fs::path changed(const fs::path& from, const fs::path& to, const std::string& old, const std::string& other) {
  const std::vector<std::uint8_t> bytes = read_file(from);
  std::string text(bytes.begin(), bytes.end());
  const std::size_t at = text.find(old);
  CHECK(at != std::string::npos && old.size() == other.size(), old + " is not there");
  text.replace(at, old.size(), other);
  const std::string digest = "\"" + read_spec(from.string()).file_sha256 + "\"";
  text.replace(text.find(digest), digest.size(), "\"\"" + std::string(digest.size() - 2, ' '));
  std::ofstream(to, std::ios::binary) << text;
  return to;
}

template <typename Kind, typename Work>
std::string thrown(Work work) {
  try {
    work();
  } catch (const Kind& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "nothing was thrown";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void test_processors(const fs::path& folder, const fs::path& work) {
  const fs::path path =
      changed(folder / "tiny.onnx", work / "int8.onnx", "\"precision\":\"fp32\"", "\"precision\":\"int8\"");
  const auto load = [&](std::optional<Precision> precision) {
    ClassifierOptions options;
    options.precision = precision;
    return Classifier::load(path.string(), options).precision();
  };
  const machine::Processor saturating{"Nehalem", {"avx2"}, true};
  machine::pretend(&saturating);
  const std::string refusal = thrown<ProcessorError>([&] { load(std::nullopt); });
  CHECK(has(refusal, "int8.onnx") && has(refusal, "Nehalem, avx2") && has(refusal, "hint: quantize it again"), refusal);
  CHECK(has(thrown<ProcessorError>([&] { load(Precision::bf16); }), "saturate"), "in bf16 the products are the same");
  CHECK(load(Precision::fp32) == Precision::fp32, "dequantised");
  const machine::Processor exact{"Sapphire Rapids", {"avx2", "avx512_vnni", "amx_int8"}, true};
  machine::pretend(&exact);
  CHECK(load(std::nullopt) == Precision::int8 && load(Precision::fp32) == Precision::fp32, "with VNNI");
  machine::pretend(nullptr);
}

void test_self_test(const fs::path& folder, const fs::path& work) {
  const std::string good = (folder / "tiny.onnx").string();
  const std::string logit = std::to_string(read_spec(good).golden[0].logits[0]).substr(0, 6);
  const std::string bad = changed(good, work / "planted.onnx", "\"logits\":[" + logit,
                                  "\"logits\":[" + std::string("9.5") + logit.substr(3))
                              .string();
  ClassifierOptions options;
  const auto load = [&](const std::string& path, SelfTest mode) {
    options.self_test = mode;
    static_cast<void>(Classifier::load(path, options));
  };
  for (const SelfTest mode : {SelfTest::automatic, SelfTest::automatic, SelfTest::always}) {
    const std::string text = thrown<SelfTestError>([&] { load(bad, mode); });
    CHECK(has(text, "planted.onnx") && has(text, "openvino ") && has(text, "golden vector 0") && has(text, "9.5"),
          text);
  }
  load(bad, SelfTest::never);
  load(good, SelfTest::always);
  CHECK(fs::exists(work / "cache" / "self-test"), "the verdict is where VITRIFY_CACHE says");
}

void test_answers_that_are_no_numbers(const fs::path& folder, const ModelSpec& spec) {
  const std::string path = (folder / "images" / "rgb.jpg").string();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits(spec.labels.size());
    logits[2] = bad;
    const Classifier classifier = fixed(spec, logits);
    const auto names = [&](const std::string& image, const std::string& text) {
      CHECK(has(text, image) && has(text, spec.labels[2]) && has(text, std::to_string(bad)), text);
    };
    const std::vector<ImageSource> images{ImageSource::file("missing.jpg"), ImageSource::file(path)};
    names(path, thrown<RuntimeFailureError>([&] { static_cast<void>(classifier.classify(images)); }));
    const auto bytes = read_file(path);
    const std::vector<ImageSource> encoded(2, ImageSource::encoded(bytes.data(), bytes.size()));
    names("image 0", thrown<RuntimeFailureError>([&] { static_cast<void>(classifier.classify(encoded)); }));
    names("the image", thrown<RuntimeFailureError>([&] { static_cast<void>(classifier.interpret(logits.data())); }));
    std::vector<float> tensors(2 * spec.tensor_size());
    std::vector<float> out(2 * spec.labels.size());
    names("image 0", thrown<RuntimeFailureError>([&] { classifier.infer(tensors.data(), 2, out.data()); }));
    CHECK(!classifier.verify().passed, "verify reports it");
    CHECK(std::get_if<ImageError>(&classifier.classify(std::vector<ImageSource>{images[0]})[0]) != nullptr,
          "an image that cannot be read is no failure of the network");
  }
}

// Every use of it, by name.
template <typename Work>
void each_use(const Classifier& classifier, const fs::path& folder, Work check) {
  const ModelSpec spec = read_spec((folder / "tiny.onnx").string());
  const ImageSource image = ImageSource::file((folder / "images" / "rgb.jpg").string());
  std::vector<float> tensor(spec.tensor_size());
  std::vector<float> logits(spec.labels.size());
  check("classify", [&] { static_cast<void>(classifier.classify(image)); });
  check("classify several", [&] { static_cast<void>(classifier.classify(std::vector<ImageSource>{image, image})); });
  check("preprocess", [&] { classifier.preprocess(image, tensor.data()); });
  check("preprocess several",
        [&] { static_cast<void>(classifier.preprocess(std::vector<ImageSource>{image}, tensor.data())); });
  check("infer", [&] { classifier.infer(tensor.data(), 1, logits.data()); });
  check("verify", [&] { static_cast<void>(classifier.verify()); });
}

void test_moved_from(const fs::path& folder, const ModelSpec& spec) {
  Classifier one = fixed(spec, spec.golden[0].logits);
  const Classifier other = std::move(one);
  each_use(one, folder, [](const char* name, auto use) {
    const std::string text = thrown<RuntimeFailureError>(use);
    CHECK(has(text, "moved from"), std::string(name) + ": " + text);
  });
  CHECK(has(thrown<RuntimeFailureError>([&] { static_cast<void>(one.spec()); }), "moved from"), "spec");
  static_cast<void>(other.verify());
}

// What a forked process is told. Gives its exit status: 0 where it was right.
int in_child(const Classifier* classifier, const fs::path& folder) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // a child that hangs is a failure too
    failures = 0;
    each_use(*classifier, folder, [](const char* name, auto use) {
      const std::string text = thrown<RuntimeFailureError>(use);
      CHECK(has(text, "another process") && has(text, "hint: open it in the child"), std::string(name) + ": " + text);
    });
    CHECK(classifier->spec().labels.size() == 6, "what is only read stays readable");
    delete classifier;  // which has no threads here that could be waited for
    const int status = failures == 0 ? 0 : 1;
#ifdef __SANITIZE_ADDRESS__
    _exit(status);  // what is left where it is counts as a leak
#else
    std::exit(status);
#endif
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void test_fork(const fs::path& folder, Classifier opened) {
  const auto classifier = std::make_unique<Classifier>(std::move(opened));
  each_use(*classifier, folder, [](const char*, auto use) { use(); });  // threads are running
  CHECK(in_child(classifier.get(), folder) == 0, "a forked process with " + classifier->engine().name());
  each_use(*classifier, folder, [](const char*, auto use) { use(); });
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: test_open GOLDEN_FOLDER\n");
    return 2;
  }
  const fs::path folder = arguments[1];
  const fs::path work = fs::temp_directory_path() / ("vitrify-open-" + std::to_string(getpid()));
  fs::create_directories(work);
  setenv("VITRIFY_CACHE", (work / "cache").c_str(), 1);
  const ModelSpec spec = read_spec((folder / "tiny.onnx").string());
  test_answers_that_are_no_numbers(folder, spec);
  test_moved_from(folder, spec);
  test_fork(folder, fixed(spec, spec.golden[0].logits));
  for (const std::string& engine : available_runtimes()) {
    if (engine == "openvino") {
      test_processors(folder, work);
      test_self_test(folder, work);
      test_fork(folder, Classifier::load((folder / "tiny.onnx").string()));
    }
  }
  fs::remove_all(work);
  return check_result();
}
