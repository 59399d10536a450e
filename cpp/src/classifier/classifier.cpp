#include "vitrify/classifier.hpp"

#include <algorithm>
#include <climits>
#include <exception>
#include <new>
#include <thread>
#include <utility>

#include "golden.hpp"
#include "open_image.hpp"
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

// Unreadable images leave gaps among the tensors, which the readable ones close. Gives how many there are.
std::size_t close_gaps(std::vector<float>& tensors, const std::vector<std::optional<ImageError>>& failures) {
  const std::size_t stride = failures.empty() ? 0 : tensors.size() / failures.size();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < failures.size(); ++i) {
    if (!failures[i]) {
      if (kept != i) {
        std::copy_n(tensors.data() + i * stride, stride, tensors.data() + kept * stride);
      }
      ++kept;
    }
  }
  return kept;
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
    const bool can = engine->prepares_images() && !options.decode.fast;
    if (options.pixels == PixelsOn::gpu && !can) {
      throw OptionError("images cannot be prepared on the GPU", engine->name() + (options.decode.fast ? ", fast" : ""),
                        "an engine on a GPU, without fast decoding");
    }
    pixels_on_gpu = can && options.pixels != PixelsOn::cpu;
  }

  ModelSpec spec;
  std::unique_ptr<Engine> engine;
  ClassifierOptions options;
  Precision precision;
  bool pixels_on_gpu = false;
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
bool Classifier::pixels_on_gpu() const noexcept { return state_->pixels_on_gpu; }

Precision Classifier::precision() const noexcept {
  // Where the artifact's own arithmetic is a reduced one, that is what the engine computes in.
  return state_->precision == Precision::fp32 ? state_->spec.precision : state_->precision;
}

void Classifier::preprocess(const ImageSource& image, float* out) const {
  const DecodeOptions& decode = state_->options.decode;
  classifier::OpenImage opened;
  opened.open(image, decode.limits);
  opened.preprocess(state_->spec.preprocess, decode.fast, out);
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
  const std::size_t classes = state_->spec.labels.size();
  const std::vector<ImageSource> batch(images.begin() + static_cast<std::ptrdiff_t>(begin),
                                       images.begin() + static_cast<std::ptrdiff_t>(end));
  std::vector<float> logits(batch.size() * classes);
  std::vector<std::optional<ImageError>> failures;
  if (state_->pixels_on_gpu) {
    failures.resize(batch.size());
    classify_on_engine(batch, failures, logits);
  } else {
    std::vector<float> tensors(batch.size() * state_->spec.tensor_size());
    failures = preprocess(batch, tensors.data());
    infer(tensors.data(), close_gaps(tensors, failures), logits.data());
  }
  std::size_t row = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (failures[i]) {
      answers[begin + i] = std::move(*failures[i]);
    } else {
      answers[begin + i] = interpret(logits.data() + row++ * classes);
    }
  }
}

// Logits of the images that can be read, one behind the other, prepared by the engine.
void Classifier::classify_on_engine(const std::vector<ImageSource>& images,
                                    std::vector<std::optional<ImageError>>& failures,
                                    std::vector<float>& logits) const {
  const DecodeOptions& options = state_->options.decode;
  const std::size_t classes = state_->spec.labels.size();
  std::vector<std::exception_ptr> errors(images.size());
  std::vector<classifier::OpenImage> opened(images.size());
  state_->workers.each(images.size(), [&](std::size_t i) {
    try {
      opened[i].open(images[i], options.limits);
      static_cast<void>(resized_size(opened[i].upright(), state_->spec.preprocess));  // refuses what cannot be resized
    } catch (...) {
      errors[i] = std::current_exception();
    }
  });
  std::vector<std::size_t> readable;
  std::vector<StoredImage> stored;
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (!errors[i]) {
      readable.push_back(i);
      stored.push_back(opened[i].stored());
    }
  }
  if (!readable.empty()) {
    state_->engine->infer_images(
        stored,
        [&](const std::vector<std::uint8_t*>& places) {
          state_->workers.each(readable.size(), [&](std::size_t k) {
            try {
              opened[readable[k]].decode(places[k]);
            } catch (...) {
              errors[readable[k]] = std::current_exception();  // the rest of the batch goes on; this row is dropped
            }
          });
        },
        logits.data());
  }
  std::size_t kept = 0;
  for (std::size_t k = 0; k < readable.size(); ++k) {
    if (!errors[readable[k]]) {
      std::copy_n(logits.begin() + static_cast<std::ptrdiff_t>(k * classes), classes,
                  logits.begin() + static_cast<std::ptrdiff_t>(kept++ * classes));
    }
  }
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (errors[i]) {
      failures[i] = failure_of(errors[i]);
    }
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
