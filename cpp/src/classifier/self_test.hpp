// Whether an artifact is right on this machine: the golden logits, computed once, and the verdict kept.
#pragma once

#include <filesystem>
#include <string>

#include "vitrify/classifier.hpp"

namespace vitrify::classifier {

// What the files of an artifact are told apart by without reading them: device, inode, size and times. It changes with
// every change to them.
[[nodiscard]] std::string mark_of(const std::string& path);

// A computation whose answers are the same whenever it is done again: another file, library, version, arithmetic,
// processor or GPU makes another one. The number of threads and streams does not.
struct Computation {
  std::string mark;
  std::string engine;
  std::string version;
  Precision precision = Precision::fp32;  // of the engine
  bool dequantize = false;
  std::string processor;
  std::string instruction_sets;
  std::string gpu;  // and its driver

  // Lines of name=value.
  [[nodiscard]] std::string key() const;
};

// Verdicts below a folder, a file each: `self-test/<sha256 of the key>.json`. Only passes are kept. Where nothing can
// be kept, nothing is: that is no error.
class Verdicts {
 public:
  explicit Verdicts(const std::filesystem::path& cache) : folder_(cache.empty() ? cache : cache / "self-test") {}

  [[nodiscard]] bool passed(const std::string& key) const;
  void keep(const std::string& key, const GoldenReport& report) const noexcept;

 private:
  [[nodiscard]] std::filesystem::path file(const std::string& key) const;
  std::filesystem::path folder_;  // empty for nowhere
};

// Throws SelfTestError where the engine, which runs the artifact at `path`, does not give the golden logits; SpecError
// where there are none and `mode` is `always`. Where a verdict stands for this computation, nothing is inferred.
void test_itself(const std::string& path, const ModelSpec& spec, Engine& engine, Precision arithmetic, SelfTest mode,
                 const Computation& computation, const Verdicts& verdicts);

}  // namespace vitrify::classifier
