// The C interface: no exception leaves it.
#include "vitrify/vitrify.h"

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "vitrify/classifier.hpp"

#ifndef VITRIFY_VERSION
#error "CMake gives the version"
#endif

// A handle's address is what tells it apart; the classifier is in the table.
struct vitrify_classifier {};

namespace {

using vitrify::Classifier;
using vitrify::ImageSource;

// The open classifiers of this process, so that a handle that was freed is told from one that is open.
class Table {
 public:
  static Table& here() {
    static std::atomic<Table*> current{new Table};
    Table* mine = current.load();
    if (mine->process_ != getpid()) {
      // A forked process has none of its parent's threads, and perhaps the parent's lock, which nobody will open: what
      // it has inherited stays where it is.
      auto* fresh = new Table;
      mine = current.compare_exchange_strong(mine, fresh) ? fresh : (delete fresh, mine);
    }
    return *mine;
  }

  vitrify_classifier* add(Classifier classifier) {
    auto open = std::make_shared<const Classifier>(std::move(classifier));
    auto handle = std::make_unique<vitrify_classifier>();
    const std::lock_guard lock(mutex_);
    open_.emplace(handle.get(), std::move(open));
    return handle.release();
  }

  // Null for what is not open.
  std::shared_ptr<const Classifier> find(const vitrify_classifier* handle) {
    const std::lock_guard lock(mutex_);
    const auto found = open_.find(handle);
    return found == open_.end() ? nullptr : found->second;
  }

  // The classifier ends with the last call that uses it.
  void remove(vitrify_classifier* handle) {
    std::shared_ptr<const Classifier> last;
    const std::lock_guard lock(mutex_);
    const auto found = open_.find(handle);
    if (found != open_.end()) {
      last = std::move(found->second);
      open_.erase(found);
      delete handle;
    }
  }

 private:
  const pid_t process_ = getpid();
  std::mutex mutex_;
  std::unordered_map<const vitrify_classifier*, std::shared_ptr<const Classifier>> open_;
};

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

vitrify_status null_argument() { return failed(VITRIFY_BAD_ARGUMENT, "an argument is null"); }

template <typename Work>
vitrify_status guarded(Work work) noexcept {
  try {
    return work();
  } catch (const vitrify::SelfTestError& error) {
    return failed(VITRIFY_GATE_FAILED, error.what());
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

// Calls `work` with the classifier of a handle.
template <typename Work>
vitrify_status with(const vitrify_classifier* handle, Work work) noexcept {
  if (handle == nullptr) {
    return null_argument();
  }
  return guarded([&] {
    const std::shared_ptr<const Classifier> open = Table::here().find(handle);
    return open != nullptr ? work(*open)
                           : failed(VITRIFY_BAD_ARGUMENT,
                                    "the classifier is not open here: it was freed, or another process loaded it\n"
                                    "hint: load it in this process, and use it before vitrify_free");
  });
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

vitrify::SelfTest self_test_named(const std::string& name) {
  using vitrify::SelfTest;
  if (name == "auto") {
    return SelfTest::automatic;
  }
  if (name != "always" && name != "never") {
    throw vitrify::OptionError("no self-test is called '" + name + "'", {}, "auto, always, never");
  }
  return name == "always" ? SelfTest::always : SelfTest::never;
}

vitrify::DecodeLimits limits_of(const vitrify_options& given) {
  vitrify::DecodeLimits limits;
  const auto set = [](std::int64_t& limit, std::int64_t value) { limit = value != 0 ? value : limit; };
  set(limits.max_bytes, given.max_bytes);
  set(limits.max_pixels, given.max_pixels);
  set(limits.max_ratio, given.max_ratio);
  set(limits.max_memory, given.max_memory);
  set(limits.max_scan_pixels, given.max_scan_pixels);
  return limits;
}

vitrify_status classify(const Classifier& classifier, const ImageSource& image, vitrify_score* scores, int32_t count) {
  const auto& labels = classifier.spec().labels;
  if (scores == nullptr || count < 1 || static_cast<std::size_t>(count) > labels.size()) {
    return failed(VITRIFY_BAD_ARGUMENT, "scores is null, or count is not from 1 to the number of labels");
  }
  const vitrify::Prediction answer = classifier.classify(image);
  for (int32_t i = 0; i < count; ++i) {
    const vitrify::LabelScore& score = answer.top[static_cast<std::size_t>(i)];
    scores[i] = {static_cast<int32_t>(score.index), score.probability};
  }
  return VITRIFY_OK;
}

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
  // The first version ended before `self_test`, the second before the limits.
  const std::size_t size = options != nullptr ? options->struct_size : 0;
  if (options != nullptr && size != sizeof(vitrify_options) && size != offsetof(vitrify_options, self_test) &&
      size != offsetof(vitrify_options, max_bytes)) {
    return failed(VITRIFY_BAD_ARGUMENT, "struct_size is not sizeof(vitrify_options)");
  }
  return guarded([&] {
    vitrify_options given{};
    if (options != nullptr) {
      std::memcpy(&given, options, size);
    }
    vitrify::ClassifierOptions chosen;
    chosen.runtime = text_or(given.runtime, "auto");
    chosen.precision = precision_named(text_or(given.precision, "auto"));
    chosen.cache_folder = text_or(given.cache_folder, "");
    chosen.threads = given.threads;
    chosen.streams = given.streams == 0 ? 1 : given.streams;
    chosen.self_test = self_test_named(text_or(given.self_test, "auto"));
    chosen.decode.limits = limits_of(given);
    chosen.top_k = INT32_MAX;  // each call says how many it wants
    *out = Table::here().add(Classifier::load(path, chosen));
    return VITRIFY_OK;
  });
}

void vitrify_free(vitrify_classifier* classifier) {
  static_cast<void>(guarded([&] {
    Table::here().remove(classifier);
    return VITRIFY_OK;
  }));
}

int32_t vitrify_label_count(const vitrify_classifier* classifier) {
  int32_t count = 0;
  static_cast<void>(with(classifier, [&](const Classifier& open) {
    count = static_cast<int32_t>(open.spec().labels.size());
    return VITRIFY_OK;
  }));
  return count;
}

const char* vitrify_label(const vitrify_classifier* classifier, int32_t index) {
  const char* label = nullptr;
  static_cast<void>(with(classifier, [&](const Classifier& open) {
    const auto& labels = open.spec().labels;
    if (index >= 0 && static_cast<std::size_t>(index) < labels.size()) {
      label = labels[static_cast<std::size_t>(index)].c_str();
    }
    return VITRIFY_OK;
  }));
  return label;
}

void vitrify_input_size(const vitrify_classifier* classifier, int32_t* height, int32_t* width) {
  vitrify::Size size;
  static_cast<void>(with(classifier, [&](const Classifier& open) {
    size = open.spec().preprocess.crop;
    return VITRIFY_OK;
  }));
  if (height != nullptr) {
    *height = size.height;
  }
  if (width != nullptr) {
    *width = size.width;
  }
}

vitrify_status vitrify_classify_file(const vitrify_classifier* classifier, const char* path, vitrify_score* scores,
                                     int32_t count) {
  if (path == nullptr) {
    return null_argument();
  }
  return with(classifier,
              [&](const Classifier& open) { return classify(open, ImageSource::file(path), scores, count); });
}

vitrify_status vitrify_classify_encoded(const vitrify_classifier* classifier, const uint8_t* data, size_t size,
                                        vitrify_score* scores, int32_t count) {
  if (data == nullptr) {
    return null_argument();
  }
  return with(classifier,
              [&](const Classifier& open) { return classify(open, ImageSource::encoded(data, size), scores, count); });
}

vitrify_status vitrify_classify_rgb(const vitrify_classifier* classifier, const uint8_t* rgb, int32_t height,
                                    int32_t width, vitrify_score* scores, int32_t count) {
  if (rgb == nullptr) {
    return null_argument();
  }
  return with(classifier, [&](const Classifier& open) {
    return classify(open, ImageSource::rgb(rgb, {width, height}), scores, count);
  });
}

vitrify_status vitrify_preprocess_encoded(const vitrify_classifier* classifier, const uint8_t* data, size_t size,
                                          float* tensor) {
  if (data == nullptr || tensor == nullptr) {
    return null_argument();
  }
  return with(classifier, [&](const Classifier& open) {
    open.preprocess(ImageSource::encoded(data, size), tensor);
    return VITRIFY_OK;
  });
}

vitrify_status vitrify_infer(const vitrify_classifier* classifier, const float* tensors, size_t count, float* logits) {
  if (tensors == nullptr || logits == nullptr) {
    return null_argument();
  }
  return with(classifier, [&](const Classifier& open) {
    open.infer(tensors, count, logits);
    return VITRIFY_OK;
  });
}

vitrify_status vitrify_verify(const vitrify_classifier* classifier, double* max_absolute_error) {
  return with(classifier, [&](const Classifier& open) {
    const vitrify::GoldenReport report = open.verify();
    if (max_absolute_error != nullptr) {
      *max_absolute_error = report.max_absolute_error;
    }
    return report.passed ? VITRIFY_OK : failed(VITRIFY_GATE_FAILED, "the golden logits do not hold");
  });
}

}  // extern "C"
