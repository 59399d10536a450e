// How long the way from image to label takes, stage by stage.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
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

struct BenchReport {
  std::string engine;
  std::string version;
  std::string precision;
  std::string kernels;  // of the pixel core
  int threads = 0;      // as asked for; 0 for one a core
  int streams = 1;
  std::size_t batch = 1;
  std::size_t runs = 0;
  double load_ms = 0;
  double first_answer_ms = 0;  // after loading, first image to label
  bool pixels_on_gpu = false;
  // Of a batch: read, decode, resize, normalise; and the network. Nothing where the engine does both.
  std::optional<Percentiles> preprocess_ms;
  std::optional<Percentiles> inference_ms;
  Percentiles latency_ms;   // image to label
  double images_per_s = 0;  // all streams together
  std::int64_t peak_memory_bytes = 0;
};

// Sends `runs` batches of the images, over and over, from as many callers as there are streams. Throws ImageError for
// an image that cannot be read.
[[nodiscard]] BenchReport bench(const Classifier& classifier, const std::vector<NamedImage>& sources,
                                const ClassifierOptions& options, std::size_t runs, double load_ms);

[[nodiscard]] std::string table_of(const BenchReport& report);
[[nodiscard]] std::string json_of(const BenchReport& report);

}  // namespace vitrify::cli
