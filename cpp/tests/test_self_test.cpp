// The self-test at opening, over an engine that counts what it is asked for.
//   test_self_test GOLDEN_FOLDER
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <string>

#include "check.hpp"
#include "classifier/self_test.hpp"
#include "engines/saturation.hpp"
#include "machine/cache.hpp"

namespace {

namespace fs = std::filesystem;
using namespace vitrify;
using namespace vitrify::test;
using classifier::Computation;
using classifier::Verdicts;

// Gives the golden logits, an error added to one of them.
class GoldenEngine final : public Engine {
 public:
  explicit GoldenEngine(const ModelSpec& spec) : spec_(spec) {}

  void infer(const float* tensors, std::size_t count, float* logits) override {
    ++calls;
    for (std::size_t i = 0; i < count; ++i) {
      for (const GoldenVector& vector : spec_.golden) {
        const auto input = golden_input(spec_.preprocess.crop, vector.seed, vector.cell);
        if (std::equal(input.begin(), input.end(), tensors + i * spec_.tensor_size())) {
          std::copy(vector.logits.begin(), vector.logits.end(), logits + i * spec_.labels.size());
          logits[i * spec_.labels.size() + 3] += &vector == &spec_.golden[1] ? error : 0;
        }
      }
    }
  }
  [[nodiscard]] std::string name() const override { return "abacus"; }
  [[nodiscard]] std::string version() const override { return "7.1"; }

  int calls = 0;
  float error = 0;

 private:
  ModelSpec spec_;
};

class Bench {
 public:
  explicit Bench(const fs::path& artifact) : spec(read_spec(artifact.string())), engine(spec) {
    fs::remove_all(folder);
    fs::create_directories(folder);
    fs::copy_file(artifact, path);
    spec.file_sha256.clear();  // what is tested here is answers; the digest has a test of its own
    computation = {classifier::mark_of(path), "abacus", "7.1", Precision::fp32, false, "Z80 at 4 MHz",
                   "avx2 avx_vnni",           ""};
  }
  ~Bench() { fs::remove_all(folder); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // How often the engine was called.
  int calls(SelfTest mode = SelfTest::automatic) {
    const int before = engine.calls;
    classifier::test_itself(path, spec, engine, Precision::fp32, mode, computation, Verdicts(cache));
    return engine.calls - before;
  }
  [[nodiscard]] std::size_t kept() const {
    const fs::path verdicts = cache / "self-test";
    return fs::exists(verdicts)
               ? static_cast<std::size_t>(std::distance(fs::directory_iterator(verdicts), fs::directory_iterator()))
               : 0;
  }

  const fs::path folder = fs::temp_directory_path() / ("vitrify-self-test-" + std::to_string(getpid()));
  const std::string path = (folder / "model.onnx").string();
  fs::path cache = folder / "cache" / "vitrify";
  ModelSpec spec;
  GoldenEngine engine;
  Computation computation;
};

void test_once(const fs::path& artifact) {
  Bench bench(artifact);
  const int all = static_cast<int>(bench.spec.golden.size()) + 1;
  CHECK(bench.calls(SelfTest::never) == 0 && bench.kept() == 0, "never");
  CHECK(bench.calls() == all && bench.kept() == 1, "each vector alone, and all in one batch");
  CHECK(bench.calls() == 0, "nothing is inferred where a verdict stands");
  CHECK(bench.calls(SelfTest::always) == all && bench.kept() == 1, "always");

  // Whatever makes it another computation makes another verdict.
  for (const std::function<void(Computation&)>& change :
       {std::function<void(Computation&)>([](Computation& one) { one.engine = "openvino"; }),
        {[](Computation& one) { one.version = "7.2"; }},
        {[](Computation& one) { one.precision = Precision::bf16; }},
        {[](Computation& one) { one.dequantize = true; }},
        {[](Computation& one) { one.processor = "Z80 at 6 MHz"; }},
        {[](Computation& one) { one.instruction_sets = "avx2"; }},
        {[](Computation& one) { one.gpu = "GeForce 256, driver 1"; }}}) {
    const Computation before = bench.computation;
    change(bench.computation);
    CHECK(bench.calls() == all && bench.calls() == 0, "another computation:\n" + bench.computation.key());
    bench.computation = before;
  }
  CHECK(bench.kept() == 8 && bench.calls() == 0, "verdicts stand side by side");

  std::ofstream(bench.path, std::ios::app | std::ios::binary) << ' ';
  const std::string mark = classifier::mark_of(bench.path);
  CHECK(mark != bench.computation.mark, "a changed file");
  CHECK(bench.calls(SelfTest::always) == all && bench.kept() == 8, "a file that was replaced meanwhile is not kept");
  bench.computation.mark = mark;
  CHECK(bench.calls() == all && bench.calls() == 0, "a changed file is tested again");
  std::ofstream(bench.path + ".json") << "{}";
  CHECK(classifier::mark_of(bench.path) != mark, "a manifest counts");
}

void test_digest(const fs::path& artifact) {
  Bench bench(artifact);
  bench.spec = read_spec(artifact.string());
  CHECK(bench.spec.file_sha256.size() == 64 && bench.calls() > 0, "the file that was written");
  {
    std::fstream file(bench.path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(2000);
    file.put('x');
  }
  try {
    CHECK(bench.calls(SelfTest::always) == 0, "a changed byte was accepted");
  } catch (const ArtifactError& error) {
    CHECK(std::string(error.what()).find("not the file that was written") != std::string::npos, error.what());
  }
}

void test_wrong_answers(const fs::path& artifact) {
  for (const float error : {0.5F, -1e30F, std::numeric_limits<float>::quiet_NaN()}) {
    Bench bench(artifact);
    bench.engine.error = error;
    for (int i = 0; i < 2; ++i) {
      try {
        CHECK(bench.calls() == 0, "wrong logits were accepted");
      } catch (const SelfTestError& refused) {
        const std::string text = refused.what();
        for (const std::string part : {bench.path.c_str(), "abacus 7.1", "fp32", "Z80 at 4 MHz", "avx2 avx_vnni",
                                       "golden vector 1", bench.spec.labels[3].c_str(), "hint:"}) {
          CHECK(text.find(part) != std::string::npos, "'" + part + "' is not in: " + text);
        }
        CHECK(std::fabs(std::strtod(refused.expected().c_str(), nullptr) - bench.spec.golden[1].logits[3]) < 1e-3,
              "expected: " + refused.expected());
      }
    }
    CHECK(bench.engine.calls == 2 * (static_cast<int>(bench.spec.golden.size()) + 1), "tested both times");
    CHECK(bench.kept() == 0, "a failure is not kept");
    bench.engine.error = 0;
    CHECK(bench.calls() > 0 && bench.kept() == 1, "right again");
  }
}

void test_without_golden_vectors(const fs::path& artifact) {
  Bench bench(artifact);
  bench.spec.golden.clear();
  CHECK(bench.calls() == 0 && bench.kept() == 0, "there is nothing to test");
  try {
    static_cast<void>(bench.calls(SelfTest::always));
    CHECK(false, "no golden vectors were enough");
  } catch (const SpecError&) {
  }
}

void test_caches(const fs::path& artifact) {
  Bench bench(artifact);
  for (const fs::path& nowhere : {fs::path(), fs::path("/dev/null/vitrify"), fs::path("/proc/vitrify")}) {
    bench.cache = nowhere;
    CHECK(bench.calls() > 0 && bench.calls() > 0, "without a cache, each time");
  }
  bench.cache = bench.folder / "cache";
  CHECK(bench.calls() > 0 && bench.calls() == 0 && bench.kept() == 1, "a verdict");
  const fs::path verdict = fs::directory_iterator(bench.cache / "self-test")->path();
  std::string text;
  std::getline(std::ifstream(verdict), text, '\0');
  CHECK(verdict.extension() == ".json" && verdict.stem().string().size() == 64, verdict.string());
  for (const std::string& damaged : {std::string(), std::string("{"), std::string("[]"),
                                     std::string("{\"passed\":true}"), text.substr(0, text.size() / 2)}) {
    std::ofstream(verdict) << damaged;
    CHECK(bench.calls() > 0 && bench.calls() == 0, "a damaged verdict is none: " + damaged);
  }
}

void test_folder() {
  const auto set = [](const char* name, const char* value) {
    return value == nullptr ? unsetenv(name) : setenv(name, value, 1);
  };
  const auto folder = [&](const char* own, const char* caches, const char* home) {
    set("VITRIFY_CACHE", own);
    set("XDG_CACHE_HOME", caches);
    set("HOME", home);
    return machine::cache_folder().string();
  };
  CHECK(folder("/a", "/b", "/c") == "/a", "VITRIFY_CACHE");
  CHECK(folder(nullptr, "/b", "/c") == "/b/vitrify" && folder("", "/b", "/c") == "/b/vitrify", "XDG_CACHE_HOME");
  CHECK(folder(nullptr, nullptr, "/c") == "/c/.cache/vitrify", "HOME");
  CHECK(folder(nullptr, nullptr, nullptr).empty(), "nowhere");
}

// Which 8-bit networks a processor may run.
void test_saturation(ModelSpec spec) {
  const machine::Processor sse{"80486 DX2", {}, true};
  const machine::Processor vnni{"80486 DX4", {"avx2", "avx_vnni"}, true};
  const machine::Processor arm{"ARM2", {"neon"}, false};
  const auto refused = [&](const machine::Processor& here, bool dequantize = false) {
    EngineOptions options;
    options.dequantize = dequantize;
    try {
      engines::require_exact_products("model.onnx", spec, options, here);
    } catch (const ProcessorError& error) {
      CHECK(error.problem().find("model.onnx") != std::string::npos && error.got().find(here.name) == 0 &&
                error.hint().find("fp32") != std::string::npos,
            error.what());
      return true;
    }
    return false;
  };
  CHECK(!refused(sse), "fp32 has no 8-bit products");
  spec.precision = Precision::int8;
  CHECK(refused(sse) && !refused(vnni) && !refused(arm), "int8");
  CHECK(!refused(sse, true), "dequantised");
  spec.saturation_free = true;
  CHECK(!refused(sse), "weights that cannot saturate");
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: test_self_test GOLDEN_FOLDER\n");
    return 2;
  }
  const fs::path artifact = fs::path(arguments[1]) / "tiny.onnx";
  test_once(artifact);
  test_digest(artifact);
  test_wrong_answers(artifact);
  test_without_golden_vectors(artifact);
  test_caches(artifact);
  test_folder();
  test_saturation(read_spec(artifact.string()));
  return check_result();
}
