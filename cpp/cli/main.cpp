// vitrify-classify MODEL IMAGE...
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <csignal>
#include <deque>
#include <exception>
#include <future>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "answers.hpp"
#include "bench.hpp"
#include "sources.hpp"
#include "vitrify/classifier.hpp"

namespace {

using namespace vitrify;
using namespace vitrify::cli;

enum ExitCode : int { kDone = 0, kGateFailed = 1, kBadInput = 2 };

struct Arguments {
  std::string model;
  std::vector<std::string> images;
  ClassifierOptions options;
  std::string precision = "auto";
  std::string format = "table";
  std::string pixels = "auto";
  std::string decode = "cpu";
  std::string self_test = "auto";
  int bench = 0;
  bool json = false;
  bool verify = false;
};

std::string version_text() {
  std::string text = "vitrify-classify " VITRIFY_VERSION;
  for (const std::string& runtime : available_runtimes()) {
    text += ", " + runtime;
  }
  return text + ", pixels on " + kernels_in_use();
}

void define(CLI::App& app, Arguments& arguments) {
  ClassifierOptions& options = arguments.options;
  app.add_option("MODEL", arguments.model, "An .onnx file that carries its spec, or an .engine with its manifest")
      ->required();
  app.add_option("IMAGE", arguments.images, "Files, folders, or - for an encoded image or paths on standard input");
  app.add_option("-k,--top-k", options.top_k, "Labels for each image")->capture_default_str();
  app.add_option("--format", arguments.format, "table for people, jsonl for programs")
      ->check(CLI::IsMember({"table", "jsonl"}))
      ->capture_default_str();
  app.add_flag("--json", arguments.json, "The same as --format jsonl");
  app.add_option("--runtime", options.runtime, "auto, or a runtime of this build")->capture_default_str();
  app.add_option("--precision", arguments.precision,
                 "auto takes bf16 where the artifact's record says that it passed; fp32 forces exact, and runs an "
                 "int8 artifact dequantised; fp16 and fp8 are the cuda runtime's")
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp16", "fp8"}))
      ->capture_default_str();
  app.add_option("--batch-size", options.batch_size, "Images in one inference; with --bench 1 by default")
      ->capture_default_str();
  app.add_option("--threads", options.threads,
                 "Threads of inference and of preparing images; 0 for one a core that it may use")
      ->capture_default_str();
  app.add_option("--streams", options.streams, "Inferences at once, each with its share of the threads")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--cache", options.cache_folder, "Folder for compiled networks, so that the next start is short");
  app.add_option("--pixels", arguments.pixels, "Where images are resized: auto takes the runtime's GPU")
      ->check(CLI::IsMember({"auto", "cpu", "gpu"}))
      ->capture_default_str();
  app.add_option("--decode", arguments.decode,
                 "Who decodes JPEGs: nvjpeg takes the GPU, whose pixels differ a little; auto takes it where it is")
      ->check(CLI::IsMember({"cpu", "nvjpeg", "auto"}))
      ->capture_default_str();
  app.add_flag("--fast-decode", options.decode.fast, "Decode large JPEGs at a fraction of their size: other pixels");
  app.add_option("--self-test", arguments.self_test,
                 "Whether the golden logits are right here: auto computes them once on a machine, and keeps a pass")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
  app.add_flag("--verify", arguments.verify, "Say whether this still is the model that was exported");
  app.add_option("--bench", arguments.bench, "Time this many batches of the images, stage by stage")
      ->check(CLI::PositiveNumber);
  app.set_version_flag("--version", version_text(), "Show the version, the runtimes and the pixel kernels");
  app.footer(
      "Exit codes: 0 done, 1 the golden logits did not hold, 2 an image, the model or an option cannot be used.\n"
      "Example: vitrify-classify flowers.onnx photos/ --format jsonl > answers.jsonl");
}

std::optional<Precision> precision_of(const std::string& name) {
  if (name == "auto") {
    return std::nullopt;
  }
  for (const Precision precision : {Precision::bf16, Precision::fp16, Precision::fp8}) {
    if (name == name_of(precision)) {
      return precision;
    }
  }
  return Precision::fp32;
}

// A line on standard error that grows old with the work, where a person watches.
class Progress {
 public:
  Progress(std::size_t total, bool shown) : total_(total), shown_(shown && isatty(STDERR_FILENO) != 0) {}
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void clear() {
    if (written_) {
      std::cerr << "\r\033[K" << std::flush;
      written_ = false;
    }
  }

  void at(std::size_t done) {
    if (shown_ && ms_since(start_) > 1000) {
      written_ = true;
      std::cerr << "\r\033[Kpredicting " << done << "/" << total_ << std::flush;
    }
  }

 private:
  std::size_t total_;
  bool shown_;
  bool written_ = false;
  Clock::time_point start_ = Clock::now();
};

int predict(const Classifier& classifier, const Arguments& arguments, const std::vector<NamedImage>& sources) {
  const bool lines = arguments.json || arguments.format == "jsonl";
  AnswerWriter writer(lines ? OutputFormat::jsonl : OutputFormat::table, std::cout);
  Progress progress(sources.size(), !(lines && isatty(STDOUT_FILENO) != 0));
  bool failed = false;
  // Batches follow each other without a pause; their answers appear in order, as they come, and memory does not grow
  // with the images.
  const auto step = static_cast<std::size_t>(arguments.options.batch_size);
  const auto most = static_cast<std::size_t>(classifier.batches_at_once());
  std::deque<std::future<std::vector<Answer>>> running;
  const auto send = [&](std::size_t begin) {
    std::vector<ImageSource> images;
    for (std::size_t i = begin; i < sources.size() && i - begin < step; ++i) {
      images.push_back(sources[i].image());
    }
    running.push_back(std::async(std::launch::async,
                                 [&classifier, batch = std::move(images)] { return classifier.classify(batch); }));
  };
  std::size_t sent = 0;
  for (std::size_t done = 0; done < sources.size() && std::cout;) {
    for (; sent < sources.size() && running.size() < most; sent += std::min(step, sources.size() - sent)) {
      send(sent);
    }
    std::vector<Answer> answers;
    try {
      answers = running.front().get();
    } catch (...) {
      progress.clear();
      writer.finish();  // what is known so far
      throw;
    }
    running.pop_front();
    for (const Answer& answer : answers) {
      failed = failed || std::holds_alternative<ImageError>(answer);
      writer.write(sources[done].name(done), answer);
      ++done;
    }
    progress.at(done);
  }
  progress.clear();
  writer.finish();
  return failed ? kBadInput : kDone;
}

int verify(const Classifier& classifier, const Arguments& arguments) {
  const GoldenReport report = classifier.verify();
  if (arguments.json) {
    std::cout << nlohmann::ordered_json{{"runtime", classifier.engine().name()},
                                        {"version", classifier.engine().version()},
                                        {"precision", name_of(classifier.precision())},
                                        {"comparisons", report.comparisons},
                                        {"max_absolute_error", report.max_absolute_error},
                                        {"gate_use", report.gate_use},
                                        {"top1_agrees", report.top1_agrees},
                                        {"passed", report.passed}}
              << '\n';
  } else {
    char text[160];
    std::snprintf(text, sizeof(text), "%zu comparisons, largest error %.1e (%.1f%% of what is allowed), best labels %s",
                  report.comparisons, report.max_absolute_error, 100 * report.gate_use,
                  report.top1_agrees ? "agree" : "differ");
    std::cout << classifier.engine().name() << ' ' << classifier.engine().version() << ' '
              << name_of(classifier.precision()) << ": " << (report.passed ? "passed" : "FAILED") << ", " << text
              << '\n';
  }
  if (!report.passed) {
    std::cerr << "error: " << arguments.model << " does not give its golden logits on this machine\n"
              << "hint: export it again on this machine; if that passes, the file was damaged\n";
  }
  return report.passed ? kDone : kGateFailed;
}

int run(const Arguments& arguments) {
  if (arguments.images.empty() && !arguments.verify) {
    throw InputError("no image was named", {}, "files, folders, or -", "vitrify-classify --help");
  }
  const std::vector<NamedImage> sources = expand_sources(arguments.images, std::cin);
  const auto start = Clock::now();
  StageLog log;
  ClassifierOptions options = arguments.options;
  if (arguments.bench > 0) {
    options.observer = [&log](const StageTimes& times) { log.add(times); };
  }
  const Classifier classifier = Classifier::load(arguments.model, options);
  const double load_ms = ms_since(start);
  int code = kDone;
  if (arguments.verify) {
    code = verify(classifier, arguments);
  }
  if (arguments.bench > 0) {
    const BenchReport report =
        bench(classifier, sources, arguments.options, static_cast<std::size_t>(arguments.bench), load_ms, log);
    std::cout << (arguments.json ? json_of(report) : table_of(report));
  } else if (code == kDone && !sources.empty()) {
    code = predict(classifier, arguments, sources);
  }
  std::cout.flush();
  if (!std::cout) {
    throw InputError("the output cannot be written", {}, {}, "is the disk full?");
  }
  return code;
}

// CLI11 takes [a,b] for a list; a path that looks like one is kept as it is.
std::vector<std::string> arguments_of(int count, char** texts) {
  std::vector<std::string> words(texts + 1, texts + count);
  for (std::string& word : words) {
    if (!word.empty() && word.front() == '[') {
      word.insert(0, "./");
    }
  }
  std::reverse(words.begin(), words.end());  // as its parser wants them
  return words;
}

}  // namespace

int main(int count, char** texts) {
  std::setlocale(LC_CTYPE, "C.UTF-8");
  // Whoever reads the answers has seen enough.
  std::signal(SIGPIPE, [](int) { _exit(kDone); });
  std::ios::sync_with_stdio(false);
  try {
    Arguments arguments;
    CLI::App app("Classifies images with a vitrify artifact, as `vitrify predict` does, without Python.",
                 "vitrify-classify");
    define(app, arguments);
    try {
      app.parse(arguments_of(count, texts));
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) {
        return app.exit(error);  // --help, --version
      }
      throw InputError(error.what(), {}, {}, "vitrify-classify --help");
    }
    if (arguments.bench > 0 && app.count("--batch-size") == 0) {
      arguments.options.batch_size = 1;
    }
    arguments.options.precision = precision_of(arguments.precision);
    arguments.options.pixels = arguments.pixels == "cpu"   ? PixelsOn::cpu
                               : arguments.pixels == "gpu" ? PixelsOn::gpu
                                                           : PixelsOn::automatic;
    // --verify reports what the self-test would refuse.
    const bool tested = app.count("--self-test") > 0 || !arguments.verify;
    arguments.options.self_test = !tested || arguments.self_test == "never" ? SelfTest::never
                                  : arguments.self_test == "always"         ? SelfTest::always
                                                                            : SelfTest::automatic;
    arguments.options.jpeg_decoder = arguments.decode == "cpu"      ? JpegDecoder::cpu
                                     : arguments.decode == "nvjpeg" ? JpegDecoder::nvjpeg
                                                                    : JpegDecoder::automatic;
    if (arguments.bench > 0 && arguments.images.empty()) {
      throw InputError("--bench needs images", {}, "files, folders, or -");
    }
    return run(arguments);
  } catch (const SelfTestError& error) {
    std::cerr << "error: " << error.what() << '\n';
    return kGateFailed;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return kBadInput;
  }
}
