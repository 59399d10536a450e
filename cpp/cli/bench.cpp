#include "bench.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <exception>
#include <mutex>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "table.hpp"

namespace vitrify::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Samples {
  std::vector<double> preprocess;
  std::vector<double> inference;
  std::vector<double> latency;

  void append(const Samples& other) {
    preprocess.insert(preprocess.end(), other.preprocess.begin(), other.preprocess.end());
    inference.insert(inference.end(), other.inference.begin(), other.inference.end());
    latency.insert(latency.end(), other.latency.begin(), other.latency.end());
  }
};

// One caller's batch buffers.
class Caller {
 public:
  Caller(const Classifier& classifier, const std::vector<NamedImage>& sources, std::size_t batch)
      : classifier_(&classifier),
        sources_(&sources),
        batch_(batch),
        tensors_(batch * classifier.spec().tensor_size()),
        logits_(batch * classifier.spec().labels.size()) {}

  // Run number `run`, which decides which images it takes.
  void run(std::size_t run, Samples& samples) {
    const auto start = Clock::now();
    std::vector<ImageSource> images;
    for (std::size_t i = 0; i < batch_; ++i) {
      images.push_back((*sources_)[(run * batch_ + i) % sources_->size()].image());
    }
    if (classifier_->pixels_on_gpu()) {
      for (const Answer& answer : classifier_->classify(images)) {
        if (const auto* failure = std::get_if<ImageError>(&answer)) {
          throw ImageError(*failure);
        }
      }
      samples.latency.push_back(ms_since(start));
      return;
    }
    if (batch_ == 1) {
      classifier_->preprocess(images.front(), tensors_.data());
    } else {
      for (const auto& failure : classifier_->preprocess(images, tensors_.data())) {
        if (failure) {
          throw ImageError(*failure);
        }
      }
    }
    const double preprocess = ms_since(start);
    classifier_->infer(tensors_.data(), batch_, logits_.data());
    samples.inference.push_back(ms_since(start) - preprocess);
    for (std::size_t i = 0; i < batch_; ++i) {
      static_cast<void>(classifier_->interpret(logits_.data() + i * classifier_->spec().labels.size()));
    }
    samples.preprocess.push_back(preprocess);
    samples.latency.push_back(ms_since(start));
  }

 private:
  const Classifier* classifier_;
  const std::vector<NamedImage>* sources_;
  std::size_t batch_;
  std::vector<float> tensors_;
  std::vector<float> logits_;
};

// Sends `runs` batches from `streams` callers at once.
Samples measured(const Classifier& classifier, const std::vector<NamedImage>& sources, std::size_t batch,
                 std::size_t runs, std::size_t streams) {
  Samples all;
  std::mutex mutex;
  std::exception_ptr failure;
  std::atomic<std::size_t> next{0};
  const auto call = [&] {
    Samples own;
    try {
      Caller caller(classifier, sources, batch);
      for (std::size_t run = next++; run < runs; run = next++) {
        caller.run(run, own);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
      next = runs;
    }
    const std::lock_guard lock(mutex);
    all.append(own);
  };
  std::vector<std::thread> callers;
  const auto join = [&] {
    for (std::thread& caller : callers) {
      caller.join();
    }
  };
  try {
    callers.reserve(streams);
    for (std::size_t i = 1; i < streams; ++i) {
      callers.emplace_back(call);
    }
  } catch (...) {
    join();
    throw;
  }
  call();
  join();
  if (failure) {
    std::rethrow_exception(failure);
  }
  return all;
}

std::int64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;  // Linux counts in KiB
}

std::string milliseconds(const Percentiles& values) {
  char text[96];
  std::snprintf(text, sizeof(text), "p50 %.2f   p90 %.2f   p99 %.2f ms", values.p50, values.p90, values.p99);
  return text;
}

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

Json json_of(const Percentiles& values) { return {{"p50", values.p50}, {"p90", values.p90}, {"p99", values.p99}}; }

}  // namespace

Percentiles percentiles_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double fraction) {
    const auto rank = static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(samples.size())));
    return samples[std::clamp<std::size_t>(rank, 1, samples.size()) - 1];
  };
  return {at(0.5), at(0.9), at(0.99)};
}

BenchReport bench(const Classifier& classifier, const std::vector<NamedImage>& sources,
                  const ClassifierOptions& options, std::size_t runs, double load_ms) {
  BenchReport report;
  report.engine = classifier.engine().name();
  report.version = classifier.engine().version();
  report.precision = name_of(classifier.precision());
  report.kernels = kernels_in_use();
  report.threads = options.threads;
  report.streams = options.streams;
  report.batch = static_cast<std::size_t>(options.batch_size);
  report.runs = runs;
  report.load_ms = load_ms;

  const auto first = Clock::now();
  static_cast<void>(classifier.classify(sources.front().image()));
  report.first_answer_ms = ms_since(first);

  const auto streams = static_cast<std::size_t>(options.streams);
  static_cast<void>(measured(classifier, sources, report.batch, 2 * streams, streams));  // every request is warm then
  const auto start = Clock::now();
  const Samples all = measured(classifier, sources, report.batch, runs, streams);
  const double whole_ms = ms_since(start);
  report.pixels_on_gpu = classifier.pixels_on_gpu();
  if (!report.pixels_on_gpu) {
    report.preprocess_ms = percentiles_of(all.preprocess);
    report.inference_ms = percentiles_of(all.inference);
  }
  report.latency_ms = percentiles_of(all.latency);
  report.images_per_s = 1000 * static_cast<double>(runs * report.batch) / whole_ms;
  report.peak_memory_bytes = peak_memory();
  return report;
}

std::string table_of(const BenchReport& report) {
  Table table({report.engine + " " + report.version + ", " + report.precision,
               "batch " + std::to_string(report.batch) + ", " + std::to_string(report.runs) + " runs"});
  table.add({"load", number("%.1f ms", report.load_ms)});
  table.add({"first answer", number("%.2f ms", report.first_answer_ms)});
  if (report.preprocess_ms && report.inference_ms) {
    table.add({"read, decode, resize", milliseconds(*report.preprocess_ms)});
    table.add({"inference", milliseconds(*report.inference_ms)});
  }
  table.add({"image to label", milliseconds(report.latency_ms)});
  table.add({std::to_string(report.streams) + (report.streams == 1 ? " stream" : " streams"),
             number("%.1f images/s", report.images_per_s)});
  table.add({"peak memory", number("%.0f MB", static_cast<double>(report.peak_memory_bytes) / 1e6)});
  std::ostringstream text;
  table.print(text);
  return text.str();
}

std::string json_of(const BenchReport& report) {
  const Json record{{"engine", report.engine},
                    {"version", report.version},
                    {"precision", report.precision},
                    {"kernels", report.kernels},
                    {"threads", report.threads},
                    {"streams", report.streams},
                    {"batch", report.batch},
                    {"runs", report.runs},
                    {"load_ms", report.load_ms},
                    {"first_answer_ms", report.first_answer_ms},
                    {"pixels", report.pixels_on_gpu ? "gpu" : "cpu"},
                    {"preprocess_ms", report.preprocess_ms ? json_of(*report.preprocess_ms) : Json()},
                    {"inference_ms", report.inference_ms ? json_of(*report.inference_ms) : Json()},
                    {"latency_ms", json_of(report.latency_ms)},
                    {"images_per_s", report.images_per_s},
                    {"peak_memory_bytes", report.peak_memory_bytes}};
  return record.dump() + "\n";
}

}  // namespace vitrify::cli
