#include "vitrify/classifier.hpp"

#include <algorithm>
#include <climits>
#include <utility>

#include "golden.hpp"
#include "machine/threads.hpp"
#include "open_image.hpp"
#include "postprocess.hpp"
#include "state.hpp"

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
  return static_cast<std::size_t>(threads > 0 ? threads : machine::available_threads());
}

Precision automatic_precision(const ModelSpec& spec, const std::string& engine) {
  return spec.allows(engine, Precision::bf16) && has_native(engine, Precision::bf16) ? Precision::bf16
                                                                                     : Precision::fp32;
}

}  // namespace

Classifier::State::State(ModelSpec model, std::unique_ptr<Engine> network, const ClassifierOptions& choices,
                         Precision chosen)
    : spec(std::move(model)),
      engine(std::move(network)),
      options(choices),
      precision(chosen),
      workers(thread_count(choices.threads)),
      callers(batches_at_once(engine.get(), choices)),
      threads(thread_count(choices.threads)) {
  if (engine == nullptr || spec.labels.empty()) {
    throw OptionError("a classifier needs an engine and labels");
  }
  const bool can = engine->prepares_images() && !options.decode.fast;
  if (options.pixels == PixelsOn::gpu && !can) {
    throw OptionError("images cannot be prepared on the GPU", engine->name() + (options.decode.fast ? ", fast" : ""),
                      "an engine on a GPU, without fast decoding");
  }
  pixels_on_gpu = can && options.pixels != PixelsOn::cpu;
  if (options.jpeg_decoder == JpegDecoder::nvjpeg && (!pixels_on_gpu || engine->jpeg_decoder().empty())) {
    throw OptionError("nvJPEG cannot decode", engine->name() + (pixels_on_gpu ? "" : ", pixels on the CPU"),
                      "a TensorRT engine of a build with nvJPEG, which prepares the images on its GPU");
  }
}

std::size_t Classifier::State::batches_at_once(const Engine* engine, const ClassifierOptions& options) {
  const bool gpu = engine != nullptr && engine->prepares_images();
  return static_cast<std::size_t>(options.streams) * (gpu ? 2 : 1);
}

Classifier Classifier::load(const std::string& path, const ClassifierOptions& options) {
  static_cast<void>(checked(options));
  ModelSpec spec = read_spec(path);
  const std::string name = engine_for(path, options.engine);
  ClassifierOptions chosen = options;
  if (!chosen.precision) {
    chosen.precision = automatic_precision(spec, name);
  }
  auto engine = open_engine(
      path, spec,
      {*chosen.precision, options.threads, options.streams, options.cache_folder, options.log, options.jpeg_decoder},
      name);
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
bool Classifier::pixels_on_gpu() const noexcept { return state_->pixels_on_gpu; }

int Classifier::batches_at_once() const noexcept {
  return static_cast<int>(State::batches_at_once(state_->engine.get(), state_->options));
}

Precision Classifier::precision() const noexcept {
  // Where the artifact's own arithmetic is a reduced one, that is what the engine computes in.
  return state_->precision == Precision::fp32 ? state_->spec.precision : state_->precision;
}

void Classifier::preprocess(const ImageSource& image, float* out) const { preprocess_on(state_->threads, image, out); }

void Classifier::preprocess_on(std::size_t threads, const ImageSource& image, float* out) const {
  const DecodeOptions& decode = state_->options.decode;
  classifier::OpenImage opened;
  opened.open(image, decode.limits);
  opened.preprocess(state_->spec.preprocess, decode.fast, state_->workers, threads, out);
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
  std::vector<Answer> answers = classify(std::vector<ImageSource>{image});
  if (const auto* error = std::get_if<ImageError>(&answers.front())) {
    throw ImageError(*error);
  }
  return std::get<Prediction>(std::move(answers.front()));
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
  classifier::GoldenComparison comparison(precision(), spec.precision);
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
