#include "vitrify/classifier.hpp"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "golden.hpp"
#include "machine/cache.hpp"
#include "machine/processor.hpp"
#include "machine/threads.hpp"
#include "open_image.hpp"
#include "postprocess.hpp"
#include "self_test.hpp"
#include "spec/onnx_form.hpp"
#include "state.hpp"
#include "text.hpp"

namespace vitrify {
namespace {

// More than any machine has; beyond it, threads and requests are a mistake that costs memory.
constexpr int kMostThreads = 4096;

const ClassifierOptions& checked(const ClassifierOptions& options) {
  struct Bounds {
    const char* name;
    std::int64_t value;
    std::int64_t least;
    std::int64_t most;
  };
  const DecodeLimits& limits = options.decode.limits;
  for (const Bounds& one :
       {Bounds{"batch_size", options.batch_size, 1, INT_MAX}, Bounds{"top_k", options.top_k, 1, INT_MAX},
        Bounds{"threads", options.threads, 0, kMostThreads}, Bounds{"streams", options.streams, 1, kMostThreads},
        Bounds{"max_bytes", limits.max_bytes, 1, INT64_MAX}, Bounds{"max_pixels", limits.max_pixels, 1, INT64_MAX},
        Bounds{"max_ratio", limits.max_ratio, 1, INT64_MAX}, Bounds{"max_memory", limits.max_memory, 1, INT64_MAX},
        Bounds{"max_scan_pixels", limits.max_scan_pixels, 1, INT64_MAX}}) {
    if (one.value < one.least || one.value > one.most) {
      throw OptionError(std::string(one.name) + " cannot be used", std::to_string(one.value),
                        one.most >= INT_MAX ? std::to_string(one.least) + " or more"
                                            : std::to_string(one.least) + " to " + std::to_string(one.most));
    }
  }
  return options;
}

std::size_t thread_count(int threads) {
  return static_cast<std::size_t>(threads > 0 ? threads : machine::available_threads());
}

Precision automatic_precision(const ModelSpec& spec, const std::string& runtime) {
  return spec.allows(runtime, Precision::bf16) && has_native(runtime, Precision::bf16) ? Precision::bf16
                                                                                       : Precision::fp32;
}

}  // namespace

Classifier::State::State(ModelSpec model, std::unique_ptr<Engine> network, const ClassifierOptions& choices,
                         Precision chosen)
    : spec(std::move(model)),
      engine(std::move(network)),
      options(choices),
      precision(chosen),
      process(getpid()),
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
  const std::string mark = classifier::mark_of(path);  // before anything is read of it
  ModelSpec spec = read_spec(path);
  const std::string name = runtime_for(path, options.runtime);
  ClassifierOptions chosen = options;
  if (!chosen.precision) {
    chosen.precision = automatic_precision(spec, name);
  }
  EngineOptions how;
  how.precision = *chosen.precision;
  how.dequantize = options.precision == Precision::fp32 && spec.precision == Precision::int8;
  how.threads = options.threads;
  how.streams = options.streams;
  how.cache_folder = options.cache_folder;
  how.log = options.log;
  how.jpeg_decoder = options.jpeg_decoder;
  auto engine = open_engine(path, spec, how, name);
  Classifier opened(std::move(spec), std::move(engine), chosen);
  State& state = opened.state();
  state.dequantized = how.dequantize;
  state.path = path;
  const machine::Processor& here = machine::processor();
  classifier::test_itself(path, state.spec, *state.engine, opened.precision(), options.self_test,
                          {mark, state.engine->name(), state.engine->version(), how.precision, how.dequantize,
                           here.name, joined(here.instruction_sets, " "), state.engine->device()},
                          classifier::Verdicts(machine::cache_folder()));
  return opened;
}

Classifier::Classifier(ModelSpec spec, std::unique_ptr<Engine> engine, const ClassifierOptions& options)
    : state_(new State(std::move(spec), std::move(engine), checked(options),
                       options.precision.value_or(Precision::fp32))) {}

Classifier::Classifier(Classifier&&) noexcept = default;
Classifier& Classifier::operator=(Classifier&&) noexcept = default;
Classifier::~Classifier() = default;

void Classifier::Discard::operator()(State* state) const {
  if (state->process == getpid()) {
    delete state;
  }
}

Classifier::State& Classifier::state() const {
  if (state_ == nullptr) {
    throw RuntimeFailureError("the classifier was moved from", {}, {}, "use the one that it was moved to");
  }
  return *state_;
}

Classifier::State& Classifier::running() const {
  State& mine = state();
  if (mine.process != getpid()) {
    throw RuntimeFailureError("the classifier was opened in another process", "process " + std::to_string(getpid()),
                              "process " + std::to_string(mine.process),
                              "open it in the child: threads do not survive fork()");
  }
  return mine;
}

const ModelSpec& Classifier::spec() const { return state().spec; }
const Engine& Classifier::engine() const { return *state().engine; }
bool Classifier::pixels_on_gpu() const { return state().pixels_on_gpu; }

int Classifier::batches_at_once() const {
  return static_cast<int>(State::batches_at_once(state().engine.get(), state().options));
}

Precision Classifier::precision() const {
  const State& mine = state();
  // Where the artifact's own arithmetic is a reduced one, that is what the engine computes in.
  return mine.precision == Precision::fp32 && !mine.dequantized ? mine.spec.precision : mine.precision;
}

void Classifier::preprocess(const ImageSource& image, float* out) const {
  preprocess_on(running().threads, image, out);
}

void Classifier::preprocess_on(std::size_t threads, const ImageSource& image, float* out) const {
  const DecodeOptions& decode = state().options.decode;
  classifier::OpenImage opened;
  opened.open(image, decode.limits);
  opened.preprocess(state().spec.preprocess, decode.fast, state().workers, threads, out);
}

void Classifier::infer(const float* tensors, std::size_t count, float* logits) const {
  const State& mine = running();
  if (count == 0) {
    return;
  }
  mine.engine->infer(tensors, count, logits);
  for (std::size_t i = 0; i < count; ++i) {
    classifier::require_finite(logits + i * mine.spec.labels.size(), mine.spec,
                               "image " + std::to_string(i) + " of the batch");
  }
}

Prediction Classifier::interpret(const float* logits) const {
  const ModelSpec& spec = state().spec;
  classifier::require_finite(logits, spec, "the image");
  return {classifier::top_labels(classifier::probabilities(logits, spec), spec.labels,
                                 static_cast<std::size_t>(state().options.top_k)),
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
  if (const State& mine = running(); !mine.path.empty()) {
    spec::require_sealed(mine.path, mine.spec.file_sha256);
  }
  return classifier::compare_golden(running().spec, *running().engine, precision());
}

}  // namespace vitrify
