#include "vitrify/classifier.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <exception>
#include <filesystem>
#include <fstream>
#include <new>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

#include "golden.hpp"
#include "postprocess.hpp"
#include "workers.hpp"

namespace vitrify {
namespace {

// More than any machine has; beyond it, threads and requests are a mistake that costs memory.
constexpr int kMostThreads = 4096;

const ClassifierOptions& checked(const ClassifierOptions& options) {
  struct Bounds {
    const char* name;
    int value;
    int least;
    int most;
  };
  for (const Bounds& one :
       {Bounds{"batch_size", options.batch_size, 1, INT_MAX}, Bounds{"top_k", options.top_k, 1, INT_MAX},
        Bounds{"threads", options.threads, 0, kMostThreads}, Bounds{"streams", options.streams, 1, kMostThreads}}) {
    if (one.value < one.least || one.value > one.most) {
      throw OptionError(std::string(one.name) + " cannot be used", std::to_string(one.value),
                        one.most == INT_MAX ? std::to_string(one.least) + " or more"
                                            : std::to_string(one.least) + " to " + std::to_string(one.most));
    }
  }
  return options;
}

std::size_t thread_count(int threads) {
  return threads > 0 ? static_cast<std::size_t>(threads) : std::max(1U, std::thread::hardware_concurrency());
}

Precision automatic_precision(const ModelSpec& spec, const std::string& engine) {
  return spec.allows(engine, Precision::bf16) && has_native(engine, Precision::bf16) ? Precision::bf16
                                                                                     : Precision::fp32;
}

// Reads to the end, whatever kind of file that is, but no further than one byte past the limit: enough for the decoder
// to refuse it.
std::vector<std::uint8_t> read_file(const std::string& path, const DecodeLimits& limits) {
  std::error_code ignored;
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path, ignored)) {
    const int reason = !file ? errno : EISDIR;
    throw ImageError("cannot read " + path, reason != 0 ? std::generic_category().message(reason) : "");
  }
  constexpr std::size_t least = 1 << 16;
  const std::uintmax_t known = std::filesystem::file_size(path, ignored);  // of a regular file; else as large as can be
  const auto allowed = static_cast<std::uint64_t>(std::max<std::int64_t>(limits.max_bytes, 0));
  std::vector<std::uint8_t> bytes(known <= allowed ? std::max<std::size_t>(known + 1, least) : least);
  std::size_t size = 0;
  while (true) {
    file.read(reinterpret_cast<char*>(bytes.data() + size), static_cast<std::streamsize>(bytes.size() - size));
    size += static_cast<std::size_t>(file.gcount());
    if (file.bad()) {
      throw ImageError("cannot read " + path, "an error after " + std::to_string(size) + " bytes");
    }
    if (!file || size > allowed) {
      bytes.resize(size);
      return bytes;
    }
    bytes.resize(2 * bytes.size());
  }
}

// What went wrong with one image, for the answer in its place.
ImageError failure_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const ImageError& refused) {
    return refused;
  } catch (const std::bad_alloc&) {
    return ImageError("not enough memory for the image", {}, {}, "lower the limits of decoding");
  } catch (const std::exception& other) {
    return ImageError("the image cannot be prepared", other.what());
  }
}

}  // namespace

struct Classifier::State {
  State(ModelSpec model, std::unique_ptr<Engine> network, const ClassifierOptions& choices, Precision chosen)
      : spec(std::move(model)),
        engine(std::move(network)),
        options(choices),
        precision(chosen),
        workers(thread_count(choices.threads)),
        callers(static_cast<std::size_t>(choices.streams)) {
    if (engine == nullptr || spec.labels.empty()) {
      throw OptionError("a classifier needs an engine and labels");
    }
  }

  ModelSpec spec;
  std::unique_ptr<Engine> engine;
  ClassifierOptions options;
  Precision precision;
  classifier::Workers workers;  // prepare images
  classifier::Workers callers;  // run batches, as many at once as there are streams
};

Classifier Classifier::load(const std::string& path, const ClassifierOptions& options) {
  static_cast<void>(checked(options));
  ModelSpec spec = read_spec(path);
  const std::string name = engine_for(path, options.engine);
  ClassifierOptions chosen = options;
  if (!chosen.precision) {
    chosen.precision = automatic_precision(spec, name);
  }
  auto engine = open_engine(
      path, spec, {*chosen.precision, options.threads, options.streams, options.cache_folder, options.log}, name);
  return {std::move(spec), std::move(engine), chosen};
}

Classifier::Classifier(ModelSpec spec, std::unique_ptr<Engine> engine, const ClassifierOptions& options)
    : state_(std::make_unique<State>(std::move(spec), std::move(engine), checked(options),
                                     options.precision.value_or(Precision::fp32))) {}

Classifier::Classifier(Classifier&&) noexcept = default;
Classifier& Classifier::operator=(Classifier&&) noexcept = default;
Classifier::~Classifier() = default;

const ModelSpec& Classifier::spec() const noexcept { return state_->spec; }
const Engine& Classifier::engine() const noexcept { return *state_->engine; }

Precision Classifier::precision() const noexcept {
  // Where the artifact's own arithmetic is a reduced one, that is what the engine computes in.
  return state_->precision == Precision::fp32 ? state_->spec.precision : state_->precision;
}

void Classifier::preprocess(const ImageSource& image, float* out) const {
  const Preprocess& rules = state_->spec.preprocess;
  const DecodeOptions& decode = state_->options.decode;
  std::visit(
      [&](const auto& source) {
        using Kind = std::decay_t<decltype(source)>;
        if constexpr (std::is_same_v<Kind, std::string>) {
          const auto bytes = read_file(source, decode.limits);
          try {
            preprocess_encoded(bytes.data(), bytes.size(), rules, decode, out);
          } catch (const ImageError& error) {
            throw ImageError(source + ": " + error.problem(), error.got(), error.expected(), error.hint());
          }
        } else if constexpr (std::is_same_v<Kind, ImageSource::Bytes>) {
          preprocess_encoded(source.data, source.size, rules, decode, out);
        } else if (source.rgb == nullptr || source.size.width < 1 || source.size.height < 1) {
          throw ImageError("the image has no pixels",
                           std::to_string(source.size.width) + " x " + std::to_string(source.size.height));
        } else {
          preprocess_rgb(source.rgb, source.size, rules, out);
        }
      },
      image.value());
}

void Classifier::infer(const float* tensors, std::size_t count, float* logits) const {
  if (count > 0) {
    state_->engine->infer(tensors, count, logits);
  }
}

Prediction Classifier::interpret(const float* logits) const {
  const ModelSpec& spec = state_->spec;
  return {classifier::top_labels(classifier::probabilities(logits, spec), spec.labels,
                                 static_cast<std::size_t>(state_->options.top_k)),
          std::vector<float>(logits, logits + spec.labels.size())};
}

Prediction Classifier::classify(const ImageSource& image) const {
  std::vector<float> tensor(state_->spec.tensor_size());
  std::vector<float> logits(state_->spec.labels.size());
  preprocess(image, tensor.data());
  infer(tensor.data(), 1, logits.data());
  return interpret(logits.data());
}

std::vector<std::optional<ImageError>> Classifier::preprocess(const std::vector<ImageSource>& images,
                                                              float* out) const {
  const std::size_t stride = state_->spec.tensor_size();
  std::vector<std::exception_ptr> errors(images.size());
  state_->workers.each(images.size(), [&](std::size_t i) {
    try {
      preprocess(images[i], out + i * stride);
    } catch (...) {
      errors[i] = std::current_exception();
    }
  });
  std::vector<std::optional<ImageError>> failures(images.size());
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (errors[i]) {
      failures[i] = failure_of(errors[i]);
    }
  }
  return failures;
}

std::vector<Answer> Classifier::classify(const std::vector<ImageSource>& images) const {
  const auto largest = static_cast<std::size_t>(state_->options.batch_size);
  const std::size_t batches = (images.size() + largest - 1) / largest;
  std::vector<Answer> answers(images.size());
  std::vector<std::exception_ptr> errors(batches);
  state_->callers.each(batches, [&](std::size_t batch) {
    try {
      const std::size_t begin = batch * largest;
      classify_batch(images, begin, std::min(begin + largest, images.size()), answers);
    } catch (...) {
      errors[batch] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) {
      std::rethrow_exception(error);
    }
  }
  return answers;
}

void Classifier::classify_batch(const std::vector<ImageSource>& images, std::size_t begin, std::size_t end,
                                std::vector<Answer>& answers) const {
  const std::size_t stride = state_->spec.tensor_size();
  const std::size_t classes = state_->spec.labels.size();
  const std::vector<ImageSource> batch(images.begin() + static_cast<std::ptrdiff_t>(begin),
                                       images.begin() + static_cast<std::ptrdiff_t>(end));
  std::vector<float> tensors(batch.size() * stride);
  std::vector<float> logits(batch.size() * classes);
  auto failures = preprocess(batch, tensors.data());
  // Unreadable images leave gaps, which the readable ones close.
  std::vector<std::size_t> readable;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (failures[i]) {
      answers[begin + i] = std::move(*failures[i]);
      continue;
    }
    if (readable.size() != i) {
      std::copy_n(tensors.data() + i * stride, stride, tensors.data() + readable.size() * stride);
    }
    readable.push_back(begin + i);
  }
  infer(tensors.data(), readable.size(), logits.data());
  for (std::size_t row = 0; row < readable.size(); ++row) {
    answers[readable[row]] = interpret(logits.data() + row * classes);
  }
}

GoldenReport Classifier::verify() const {
  const ModelSpec& spec = state_->spec;
  if (spec.golden.empty()) {
    throw SpecError("the artifact has no golden vectors", {}, {}, "export it again");
  }
  const std::size_t count = spec.golden.size();
  const std::size_t stride = spec.tensor_size();
  const std::size_t classes = spec.labels.size();
  std::vector<float> tensors;
  tensors.reserve(count * stride);
  for (const GoldenVector& vector : spec.golden) {
    const std::vector<float> tensor = golden_input(spec.preprocess.crop, vector.seed, vector.cell);
    tensors.insert(tensors.end(), tensor.begin(), tensor.end());
  }
  // Each alone, then all in one batch: a graph whose batch axis is broken is right in one of the two only.
  classifier::GoldenComparison comparison(precision());
  std::vector<float> logits(count * classes);
  for (const std::size_t batch : {std::size_t{1}, count}) {
    for (std::size_t begin = 0; begin < count; begin += batch) {
      infer(tensors.data() + begin * stride, batch, logits.data() + begin * classes);
    }
    for (std::size_t i = 0; i < count; ++i) {
      comparison.add(spec.golden[i].logits, logits.data() + i * classes);
    }
  }
  return comparison.report();
}

}  // namespace vitrify
