// Many images: their tensors on all threads, their answers batch by batch.
#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "open_image.hpp"
#include "postprocess.hpp"
#include "state.hpp"
#include "vitrify/classifier.hpp"

namespace vitrify {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
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

std::string name_of(const ImageSource& image, std::size_t index) {
  const auto* path = std::get_if<std::string>(&image.value());
  return path != nullptr ? *path : "image " + std::to_string(index);
}

}  // namespace

std::vector<std::optional<ImageError>> Classifier::preprocess(const std::vector<ImageSource>& images,
                                                              float* out) const {
  State& mine = running();
  const std::size_t stride = mine.spec.tensor_size();
  std::vector<std::exception_ptr> errors(images.size());
  mine.workers.each(images.size(), [&](std::size_t i) {
    try {
      preprocess_on(pixels::part_of(mine.threads, images.size(), i), images[i], out + i * stride);
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
  State& mine = running();
  const auto largest = static_cast<std::size_t>(mine.options.batch_size);
  const std::size_t batches = (images.size() + largest - 1) / largest;
  std::vector<Answer> answers(images.size());
  std::vector<std::exception_ptr> errors(batches);
  mine.callers.each(batches, [&](std::size_t batch) {
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
  State& mine = state();
  const std::size_t classes = mine.spec.labels.size();
  const std::vector<ImageSource> batch(images.begin() + static_cast<std::ptrdiff_t>(begin),
                                       images.begin() + static_cast<std::ptrdiff_t>(end));
  std::vector<float> logits(batch.size() * classes);
  std::vector<std::optional<ImageError>> failures;
  StageTimes times;
  if (mine.pixels_on_gpu) {
    failures.resize(batch.size());
    classify_on_engine(batch, failures, logits, mine.options.observer ? &times : nullptr);
  } else {
    std::vector<float> tensors(batch.size() * mine.spec.tensor_size());
    const auto start = Clock::now();
    failures = preprocess(batch, tensors.data());
    times.decode = ms_since(start);
    const std::size_t readable = close_gaps(tensors, failures);
    if (readable > 0) {
      mine.engine->infer(tensors.data(), readable, logits.data());
    }
    times.inference = ms_since(start) - times.decode;
  }
  const auto inferred = Clock::now();
  std::size_t row = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (std::optional<ImageError>& failure = failures[i]) {
      answers[begin + i] = *std::move(failure);
    } else {
      const float* scores = logits.data() + row++ * classes;
      classifier::require_finite(scores, mine.spec, name_of(batch[i], begin + i));
      answers[begin + i] = interpret(scores);
    }
  }
  times.post = ms_since(inferred);
  if (mine.options.observer) {
    mine.options.observer(times);
  }
}

// Logits of the images that can be read, one behind the other, prepared by the engine.
void Classifier::classify_on_engine(const std::vector<ImageSource>& images,
                                    std::vector<std::optional<ImageError>>& failures, std::vector<float>& logits,
                                    StageTimes* times) const {
  State& mine = state();
  const DecodeOptions& options = mine.options.decode;
  const std::size_t classes = mine.spec.labels.size();
  std::vector<std::exception_ptr> errors(images.size());
  std::vector<classifier::OpenImage> opened(images.size());
  const auto start = Clock::now();
  mine.workers.each(images.size(), [&](std::size_t i) {
    try {
      opened[i].open(images[i], options.limits);
      static_cast<void>(resized_size(opened[i].upright(), mine.spec.preprocess));  // refuses what cannot be resized
    } catch (...) {
      errors[i] = std::current_exception();
    }
  });
  double decode_ms = ms_since(start);
  std::vector<std::size_t> readable;
  std::vector<StoredImage> stored;
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (!errors[i]) {
      readable.push_back(i);
      stored.push_back(opened[i].stored());
    }
  }
  if (!readable.empty()) {
    mine.engine->infer_images(
        stored,
        [&](const std::vector<PixelWindow>& windows) {
          const auto begin = Clock::now();
          mine.workers.each(windows.size(), [&](std::size_t k) {
            try {
              if (windows[k].rgb != nullptr) {
                opened[readable[k]].decode(windows[k], mine.workers, pixels::part_of(mine.threads, windows.size(), k));
              }
            } catch (...) {
              errors[readable[k]] = std::current_exception();  // the rest of the batch goes on; this row is dropped
            }
          });
          decode_ms += ms_since(begin);
        },
        logits.data(), times);
  }
  if (times != nullptr) {
    times->decode = decode_ms;
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

}  // namespace vitrify
