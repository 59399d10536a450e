// The C interface: no exception leaves it.
#include "vitrify/vitrify.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "vitrify/classifier.hpp"

#ifndef VITRIFY_VERSION
#error "CMake gives the version"
#endif

struct vitrify_classifier {
  vitrify::Classifier classifier;
};

namespace {

using vitrify::ImageSource;

std::string& last_error() {
  thread_local std::string text;
  return text;
}

vitrify_status failed(vitrify_status status, const char* text) noexcept {
  try {
    last_error() = text;
  } catch (...) {
    last_error().clear();  // no memory for the message; the status still says what it was
  }
  return status;
}

template <typename Work>
vitrify_status guarded(Work work) noexcept {
  try {
    return work();
  } catch (const vitrify::OptionError& error) {
    return failed(VITRIFY_BAD_OPTION, error.what());
  } catch (const vitrify::ImageError& error) {
    return failed(VITRIFY_BAD_IMAGE, error.what());
  } catch (const vitrify::ArtifactError& error) {
    return failed(VITRIFY_BAD_ARTIFACT, error.what());
  } catch (const vitrify::SpecError& error) {
    return failed(VITRIFY_BAD_SPEC, error.what());
  } catch (const vitrify::RuntimeFailureError& error) {
    return failed(VITRIFY_RUNTIME_FAILED, error.what());
  } catch (const std::exception& error) {
    return failed(VITRIFY_FAILED, error.what());
  } catch (...) {
    return failed(VITRIFY_FAILED, "an error of unknown type");
  }
}

std::string text_or(const char* text, const char* otherwise) { return text != nullptr ? text : otherwise; }

std::optional<vitrify::Precision> precision_named(const std::string& name) {
  using vitrify::Precision;
  if (name == "auto") {
    return std::nullopt;
  }
  for (const Precision precision :
       {Precision::fp32, Precision::bf16, Precision::fp16, Precision::int8, Precision::fp8}) {
    if (name == vitrify::name_of(precision)) {
      return precision;
    }
  }
  throw vitrify::OptionError("no precision is called '" + name + "'", {}, "auto, fp32, bf16");
}

vitrify_status classify(const vitrify_classifier* classifier, const ImageSource& image, vitrify_score* scores,
                        int32_t count) {
  const auto& labels = classifier->classifier.spec().labels;
  if (scores == nullptr || count < 1 || static_cast<std::size_t>(count) > labels.size()) {
    return failed(VITRIFY_BAD_ARGUMENT, "scores is null, or count is not from 1 to the number of labels");
  }
  const vitrify::Prediction answer = classifier->classifier.classify(image);
  for (int32_t i = 0; i < count; ++i) {
    const vitrify::LabelScore& score = answer.top[static_cast<std::size_t>(i)];
    scores[i] = {static_cast<int32_t>(score.index), score.probability};
  }
  return VITRIFY_OK;
}

vitrify_status null_argument() { return failed(VITRIFY_BAD_ARGUMENT, "an argument is null"); }

}  // namespace

extern "C" {

const char* vitrify_last_error(void) { return last_error().c_str(); }
const char* vitrify_version(void) { return VITRIFY_VERSION; }

vitrify_status vitrify_load(const char* path, const vitrify_options* options, vitrify_classifier** out) {
  if (out == nullptr) {
    return null_argument();
  }
  *out = nullptr;
  if (path == nullptr) {
    return null_argument();
  }
  if (options != nullptr && options->struct_size != sizeof(vitrify_options)) {
    return failed(VITRIFY_BAD_ARGUMENT, "struct_size is not sizeof(vitrify_options)");
  }
  return guarded([&] {
    const vitrify_options given = options != nullptr ? *options : vitrify_options{};
    vitrify::ClassifierOptions chosen;
    chosen.engine = text_or(given.engine, "auto");
    chosen.precision = precision_named(text_or(given.precision, "auto"));
    chosen.cache_folder = text_or(given.cache_folder, "");
    chosen.threads = given.threads;
    chosen.streams = given.streams == 0 ? 1 : given.streams;
    chosen.top_k = INT32_MAX;  // each call says how many it wants
    *out = new vitrify_classifier{vitrify::Classifier::load(path, chosen)};
    return VITRIFY_OK;
  });
}

void vitrify_free(vitrify_classifier* classifier) { delete classifier; }

int32_t vitrify_label_count(const vitrify_classifier* classifier) {
  return classifier == nullptr ? 0 : static_cast<int32_t>(classifier->classifier.spec().labels.size());
}

const char* vitrify_label(const vitrify_classifier* classifier, int32_t index) {
  const bool known = index >= 0 && index < vitrify_label_count(classifier);
  return known ? classifier->classifier.spec().labels[static_cast<std::size_t>(index)].c_str() : nullptr;
}

void vitrify_input_size(const vitrify_classifier* classifier, int32_t* height, int32_t* width) {
  const vitrify::Size size = classifier == nullptr ? vitrify::Size{} : classifier->classifier.spec().preprocess.crop;
  if (height != nullptr) {
    *height = size.height;
  }
  if (width != nullptr) {
    *width = size.width;
  }
}

vitrify_status vitrify_classify_file(const vitrify_classifier* classifier, const char* path, vitrify_score* scores,
                                     int32_t count) {
  if (classifier == nullptr || path == nullptr) {
    return null_argument();
  }
  return guarded([&] { return classify(classifier, ImageSource::file(path), scores, count); });
}

vitrify_status vitrify_classify_encoded(const vitrify_classifier* classifier, const uint8_t* data, size_t size,
                                        vitrify_score* scores, int32_t count) {
  if (classifier == nullptr || data == nullptr) {
    return null_argument();
  }
  return guarded([&] { return classify(classifier, ImageSource::encoded(data, size), scores, count); });
}

vitrify_status vitrify_classify_rgb(const vitrify_classifier* classifier, const uint8_t* rgb, int32_t height,
                                    int32_t width, vitrify_score* scores, int32_t count) {
  if (classifier == nullptr || rgb == nullptr) {
    return null_argument();
  }
  return guarded([&] { return classify(classifier, ImageSource::rgb(rgb, {width, height}), scores, count); });
}

vitrify_status vitrify_preprocess_encoded(const vitrify_classifier* classifier, const uint8_t* data, size_t size,
                                          float* tensor) {
  if (classifier == nullptr || data == nullptr || tensor == nullptr) {
    return null_argument();
  }
  return guarded([&] {
    classifier->classifier.preprocess(ImageSource::encoded(data, size), tensor);
    return VITRIFY_OK;
  });
}

vitrify_status vitrify_infer(const vitrify_classifier* classifier, const float* tensors, size_t count, float* logits) {
  if (classifier == nullptr || tensors == nullptr || logits == nullptr) {
    return null_argument();
  }
  return guarded([&] {
    classifier->classifier.infer(tensors, count, logits);
    return VITRIFY_OK;
  });
}

vitrify_status vitrify_verify(const vitrify_classifier* classifier, double* max_absolute_error) {
  if (classifier == nullptr) {
    return null_argument();
  }
  return guarded([&] {
    const vitrify::GoldenReport report = classifier->classifier.verify();
    if (max_absolute_error != nullptr) {
      *max_absolute_error = report.max_absolute_error;
    }
    return report.passed ? VITRIFY_OK : failed(VITRIFY_GATE_FAILED, "the golden logits do not hold");
  });
}

}  // extern "C"
