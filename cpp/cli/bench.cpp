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

// Classifies run number `run`, which decides which images it takes.
void classify(const Classifier& classifier, const std::vector<NamedImage>& sources, std::size_t batch,
              std::size_t run) {
  std::vector<ImageSource> images;
  for (std::size_t i = 0; i < batch; ++i) {
    images.push_back(sources[(run * batch + i) % sources.size()].image());
  }
  for (const Answer& answer : classifier.classify(images)) {
    if (const auto* failure = std::get_if<ImageError>(&answer)) {
      throw ImageError(*failure);
    }
  }
}

// Sends `runs` batches from `callers` threads at once. Gives how long each took.
std::vector<double> measured(const Classifier& classifier, const std::vector<NamedImage>& sources, std::size_t batch,
                             std::size_t runs, std::size_t callers) {
  std::vector<double> all;
  std::mutex mutex;
  std::exception_ptr failure;
  std::atomic<std::size_t> next{0};
  const auto call = [&] {
    std::vector<double> own;
    try {
      for (std::size_t run = next++; run < runs; run = next++) {
        const auto start = Clock::now();
        classify(classifier, sources, batch, run);
        own.push_back(ms_since(start));
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
      next = runs;
    }
    const std::lock_guard lock(mutex);
    all.insert(all.end(), own.begin(), own.end());
  };
  std::vector<std::thread> threads;
  const auto join = [&] {
    for (std::thread& thread : threads) {
      thread.join();
    }
  };
  try {
    threads.reserve(callers);
    for (std::size_t i = 1; i < callers; ++i) {
      threads.emplace_back(call);
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

struct Stage {
  double StageTimes::*member;
  const char* name;
  const char* title;
};
constexpr Stage kStages[] = {
    {&StageTimes::decode, "decode", "read and decode"},
    {&StageTimes::nvjpeg, "nvjpeg", "decode on the GPU"},
    {&StageTimes::copy, "copy", "copy to the GPU"},
    {&StageTimes::wait, "wait", "wait for a stream"},
    {&StageTimes::preprocess, "preprocess", "resize on the GPU"},
    {&StageTimes::inference, "inference", "inference"},
    {&StageTimes::post, "post", "logits to labels"},
};

std::vector<StageReport> stages_of(const std::vector<StageTimes>& batches, std::size_t batch) {
  std::vector<StageReport> reports;
  for (const Stage& stage : kStages) {
    std::vector<double> samples;
    double sum = 0;
    for (const StageTimes& times : batches) {
      samples.push_back(times.*stage.member);
      sum += times.*stage.member;
    }
    if (sum > 0) {
      const auto images = static_cast<double>(batch * batches.size());
      reports.push_back({stage.name, stage.title, percentiles_of(samples), 1000 * images / sum});
    }
  }
  return reports;
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
                  const ClassifierOptions& options, std::size_t runs, double load_ms, StageLog& log) {
  BenchReport report;
  report.engine = classifier.engine().name();
  report.version = classifier.engine().version();
  report.precision = name_of(classifier.precision());
  report.kernels = kernels_in_use();
  report.threads = options.threads;
  report.streams = options.streams;
  report.batches_at_once = classifier.batches_at_once();
  report.pixels_on_gpu = classifier.pixels_on_gpu();
  report.jpeg_decoder = report.pixels_on_gpu ? classifier.engine().jpeg_decoder() : std::string();
  if (report.jpeg_decoder.empty()) {
    report.jpeg_decoder = "cpu";
  }
  report.batch = static_cast<std::size_t>(options.batch_size);
  report.runs = runs;
  report.load_ms = load_ms;

  const auto first = Clock::now();
  static_cast<void>(classifier.classify(sources.front().image()));
  report.first_answer_ms = ms_since(first);

  const auto streams = static_cast<std::size_t>(options.streams);
  const auto most = static_cast<std::size_t>(classifier.batches_at_once());
  static_cast<void>(measured(classifier, sources, report.batch, 2 * most, most));  // every request is warm then
  static_cast<void>(log.take());
  auto start = Clock::now();
  const std::vector<double> latencies = measured(classifier, sources, report.batch, runs, streams);
  double whole_ms = ms_since(start);
  report.stages = stages_of(log.take(), report.batch);
  report.latency_ms = percentiles_of(latencies);
  if (most > streams) {
    start = Clock::now();
    static_cast<void>(measured(classifier, sources, report.batch, runs, most));
    whole_ms = ms_since(start);
  }
  report.images_per_s = 1000 * static_cast<double>(runs * report.batch) / whole_ms;
  report.peak_memory_bytes = peak_memory();
  return report;
}

std::string table_of(const BenchReport& report) {
  Table table({report.engine + " " + report.version + ", " + report.precision,
               "batch " + std::to_string(report.batch) + ", " + std::to_string(report.runs) + " runs"});
  table.add({"load", number("%.1f ms", report.load_ms)});
  table.add({"first answer", number("%.2f ms", report.first_answer_ms)});
  for (const StageReport& stage : report.stages) {
    const bool all = std::string(stage.name) == "decode" && !report.pixels_on_gpu;
    table.add({all ? "read, decode, resize" : stage.title,
               milliseconds(stage.ms) + number("   %.0f images/s", stage.images_per_s)});
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
  Json record{{"runtime", report.engine},
              {"version", report.version},
              {"precision", report.precision},
              {"kernels", report.kernels},
              {"threads", report.threads},
              {"streams", report.streams},
              {"batches_at_once", report.batches_at_once},
              {"batch", report.batch},
              {"runs", report.runs},
              {"load_ms", report.load_ms},
              {"first_answer_ms", report.first_answer_ms},
              {"pixels", report.pixels_on_gpu ? "gpu" : "cpu"},
              {"jpeg_decoder", report.jpeg_decoder}};
  for (const Stage& stage : kStages) {
    record[std::string(stage.name) + "_ms"] = nullptr;
  }
  for (const StageReport& stage : report.stages) {
    Json entry = json_of(stage.ms);
    entry["images_per_s"] = stage.images_per_s;
    record[std::string(stage.name) + "_ms"] = std::move(entry);
  }
  record["latency_ms"] = json_of(report.latency_ms);
  record["images_per_s"] = report.images_per_s;
  record["peak_memory_bytes"] = report.peak_memory_bytes;
  return record.dump() + "\n";
}

}  // namespace vitrify::cli
