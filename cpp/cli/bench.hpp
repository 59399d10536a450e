// How long the way from image to label takes, stage by stage.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "sources.hpp"
#include "vitrify/classifier.hpp"

namespace vitrify::cli {

using Clock = std::chrono::steady_clock;

[[nodiscard]] inline double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Percentiles {
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
};

// Nearest rank; `samples` must not be empty.
[[nodiscard]] Percentiles percentiles_of(std::vector<double> samples);

// One of StageTimes over all batches.
struct StageReport {
  const char* name = "";  // as in JSON
  const char* title = "";
  Percentiles ms;
  double images_per_s = 0;  // if this were all that there is, one batch after the other
};

struct BenchReport {
  std::string engine;
  std::string version;
  std::string precision;
  std::string kernels;  // of the pixel core
  int threads = 0;      // as asked for; 0 for one a core
  int streams = 1;
  int batches_at_once = 1;
  std::size_t batch = 1;
  std::size_t runs = 0;
  double load_ms = 0;
  double first_answer_ms = 0;  // after loading, first image to label
  bool pixels_on_gpu = false;
  std::string jpeg_decoder;  // cpu, or what the engine calls its own
  // Of a batch, with `streams` of them at once; those that it goes through.
  std::vector<StageReport> stages;
  Percentiles latency_ms;   // image to label, likewise
  double images_per_s = 0;  // all streams together, with `batches_at_once`
  std::int64_t peak_memory_bytes = 0;
};

// Collects what the observer of a classifier is told.
class StageLog {
 public:
  void add(const StageTimes& times) {
    const std::lock_guard lock(mutex_);
    batches_.push_back(times);
  }
  // What came since the last call.
  [[nodiscard]] std::vector<StageTimes> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(batches_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<StageTimes> batches_;
};

// Sends `runs` batches of the images, over and over, from as many callers as there are streams; and once more, where
// the classifier has more batches under way than that. `log` is what its observer fills. Throws ImageError for an image
// that cannot be read.
[[nodiscard]] BenchReport bench(const Classifier& classifier, const std::vector<NamedImage>& sources,
                                const ClassifierOptions& options, std::size_t runs, double load_ms, StageLog& log);

[[nodiscard]] std::string table_of(const BenchReport& report);
[[nodiscard]] std::string json_of(const BenchReport& report);

}  // namespace vitrify::cli
