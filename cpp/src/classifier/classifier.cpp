#include "vitrify/classifier.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <new>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>

#include "golden.hpp"
#include "postprocess.hpp"
#include "workers.hpp"

namespace vitrify {
namespace {

ClassifierOptions checked(const ClassifierOptions& options) {
  for (const auto& [name, value, least] : {std::tuple{"batch_size", options.batch_size, 1},
                                           {"top_k", options.top_k, 1},
                                           {"threads", options.threads, 0}}) {
    if (value < least) {
      throw OptionError(std::string(name) + " is too small", std::to_string(value), std::to_string(least) + " or more");
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

std::vector<std::uint8_t> read_file(const std::string& path, const DecodeLimits& limits) {
  errno = 0;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto end = file ? static_cast<std::int64_t>(file.tellg()) : -1;
  if (end < 0) {
    throw ImageError("cannot read " + path, errno != 0 ? std::generic_category().message(errno) : "");
  }
  // One byte more than allowed is enough for the decoder to refuse the file.
  const std::int64_t wanted = std::min(end, std::max<std::int64_t>(limits.max_bytes, 0) + 1);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(wanted));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(wanted));
  if (!file && wanted > 0) {
    throw ImageError("cannot read " + path, "an error after " + std::to_string(file.gcount()) + " bytes");
  }
  return bytes;
}

}  // namespace

struct Classifier::State {
  State(ModelSpec model, std::unique_ptr<Engine> network, const ClassifierOptions& choices, Precision chosen)
      : spec(std::move(model)),
        engine(std::move(network)),
        options(choices),
        precision(chosen),
        workers(thread_count(choices.threads)) {}

  ModelSpec spec;
  std::unique_ptr<Engine> engine;
  ClassifierOptions options;
  Precision precision;
  classifier::Workers workers;
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

std::vector<Answer> Classifier::classify(const std::vector<ImageSource>& images) const {
  const std::size_t stride = state_->spec.tensor_size();
  const std::size_t classes = state_->spec.labels.size();
  const std::size_t largest = std::min(static_cast<std::size_t>(state_->options.batch_size), images.size());
  std::vector<float> tensors(largest * stride);
  std::vector<float> logits(largest * classes);
  std::vector<Answer> answers(images.size());
  for (std::size_t begin = 0; begin < images.size(); begin += largest) {
    const std::size_t count = std::min(largest, images.size() - begin);
    std::vector<std::optional<ImageError>> failures(count);
    state_->workers.each(count, [&](std::size_t i) {
      try {
        preprocess(images[begin + i], tensors.data() + i * stride);
      } catch (const ImageError& error) {
        failures[i] = error;
      } catch (const std::bad_alloc&) {
        failures[i] = ImageError("not enough memory for the image", {}, {}, "lower the limits of decoding");
      } catch (const std::exception& error) {
        failures[i] = ImageError("the image cannot be prepared", error.what());
      }
    });
    // Unreadable images leave gaps, which the readable ones close.
    std::vector<std::size_t> readable;
    for (std::size_t i = 0; i < count; ++i) {
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
  return answers;
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
