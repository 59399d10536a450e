// Images to labels, with an artifact that says itself how.
//
//   const auto classifier = vitrify::Classifier::load("flowers.onnx");
//   const vitrify::Prediction answer = classifier.classify(vitrify::ImageSource::file("tulip.jpg"));
//   std::cout << answer.top[0].label << ' ' << answer.top[0].probability << '\n';
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "vitrify/engine.hpp"
#include "vitrify/export.h"
#include "vitrify/image.hpp"
#include "vitrify/spec.hpp"

namespace vitrify {

// Where images are resized, cropped and normalised. The tensors are the same.
enum class PixelsOn : std::uint8_t { automatic, cpu, gpu };

// When an artifact is tested as it is opened: whether it gives its golden logits here. `automatic` does it once for a
// file, library, precision, processor and GPU, and keeps a pass in the user's cache folder: $VITRIFY_CACHE, else
// $XDG_CACHE_HOME/vitrify, else ~/.cache/vitrify.
enum class SelfTest : std::uint8_t { automatic, always, never };

struct ClassifierOptions {
  std::string runtime = "auto";  // see open_engine
  // Unset, bf16 where the artifact's record says that it passed its gate on real images and the processor has it, else
  // fp32. Setting it forces it: fp32 runs an int8 artifact dequantised, which is as exact as its weights, and slower.
  std::optional<Precision> precision;
  // Of inference, and of preparing a batch's images; 0 for one a core that affinity and the cgroup's quota allow. Where
  // there are fewer images than threads, a large baseline JPEG is decoded on several.
  int threads = 0;
  int streams = 1;           // see EngineOptions
  std::string cache_folder;  // see EngineOptions
  LogSink log;               // see EngineOptions
  int batch_size = 8;        // most images in one inference
  int top_k = 5;
  DecodeOptions decode;
  // Unset, on the GPU where the engine runs on one.
  PixelsOn pixels = PixelsOn::automatic;
  JpegDecoder jpeg_decoder = JpegDecoder::cpu;
  SelfTest self_test = SelfTest::automatic;
  // Is told of every batch of `classify`, by the thread that ran it; several threads may call it at once. Measuring
  // costs a few microseconds a batch.
  std::function<void(const StageTimes& times)> observer;
};

// One image, as a file, as encoded bytes or as pixels. Memory is the caller's and must outlive the call.
class VITRIFY_API ImageSource {
 public:
  static ImageSource file(std::string path) { return ImageSource(std::move(path)); }
  static ImageSource encoded(const std::uint8_t* data, std::size_t size) { return ImageSource(Bytes{data, size}); }
  // 8-bit RGB, [height, width, 3], rows without padding.
  static ImageSource rgb(const std::uint8_t* pixels, Size size) { return ImageSource(Pixels{pixels, size}); }

  struct Bytes {
    const std::uint8_t* data;
    std::size_t size;
  };
  struct Pixels {
    const std::uint8_t* rgb;
    Size size;
  };
  [[nodiscard]] const std::variant<std::string, Bytes, Pixels>& value() const noexcept { return value_; }

 private:
  explicit ImageSource(std::variant<std::string, Bytes, Pixels> value) : value_(std::move(value)) {}
  std::variant<std::string, Bytes, Pixels> value_;
};

struct LabelScore {
  std::string label;
  std::size_t index = 0;   // among the spec's labels
  double probability = 0;  // 0 to 1
};

struct Prediction {
  std::vector<LabelScore> top;  // best first, equal ones in the order of the labels
  std::vector<float> logits;    // what the network gave, one a label
};

// The answer for one image of several: a prediction, or why there is none.
using Answer = std::variant<Prediction, ImageError>;

// How far this engine on this machine is from the golden logits, and whether that is allowed.
struct GoldenReport {
  struct Logit {
    std::size_t vector = 0;
    std::size_t label = 0;
    float expected = 0;
    float got = 0;
  };
  std::size_t comparisons = 0;  // of one row of logits with the golden one
  double max_absolute_error = 0;
  double gate_use = 0;      // largest error as a fraction of what the gate allows
  Logit worst;              // the one with the largest share of what the gate allows
  bool top1_agrees = true;  // which the gate of fp32 asks for
  bool passed = false;
};

// Safe to use from many threads at once, in the process that made it: after fork(), the child has to open its own, and
// using the parent's throws RuntimeFailureError. So does every use of one that was moved from.
class VITRIFY_API Classifier {
 public:
  // Throws ArtifactError, with ProcessorError and SelfTestError among them, SpecError, OptionError or
  // RuntimeFailureError.
  [[nodiscard]] static Classifier load(const std::string& path, const ClassifierOptions& options = {});

  // Over an engine of one's own, which is not tested; of the engine's options, only `streams` is looked at. Throws
  // OptionError.
  Classifier(ModelSpec spec, std::unique_ptr<Engine> engine, const ClassifierOptions& options = {});
  Classifier(Classifier&&) noexcept;
  Classifier& operator=(Classifier&&) noexcept;
  ~Classifier();

  // One image. Throws ImageError, or RuntimeFailureError, for logits that are no finite numbers too.
  [[nodiscard]] Prediction classify(const ImageSource& image) const;

  // Any number of images, an answer for each in order, `batch_size` in an inference, `batches_at_once` of them.
  // Throws RuntimeFailureError, for logits that are no finite numbers too; it names their image.
  [[nodiscard]] std::vector<Answer> classify(const std::vector<ImageSource>& images) const;

  // The tensor of one image, spec().tensor_size() floats, on `threads` threads where it is a large JPEG. Throws
  // ImageError.
  void preprocess(const ImageSource& image, float* out) const;

  // The tensors of several images, one behind the other, on `threads` threads; and what was wrong with each of them.
  [[nodiscard]] std::vector<std::optional<ImageError>> preprocess(const std::vector<ImageSource>& images,
                                                                  float* out) const;

  // Preprocessed images to logits: [count, 3, H, W] to [count, labels], all finite. Throws RuntimeFailureError.
  void infer(const float* tensors, std::size_t count, float* logits) const;

  // The labels of one row of logits. Throws RuntimeFailureError where one is no finite number.
  [[nodiscard]] Prediction interpret(const float* logits) const;

  // Whether this still is the model that was exported. Throws ArtifactError where the file is not the
  // one that was written, SpecError where it has no golden vectors.
  [[nodiscard]] GoldenReport verify() const;

  [[nodiscard]] const ModelSpec& spec() const;
  [[nodiscard]] const Engine& engine() const;
  // Whether the engine prepares the images.
  [[nodiscard]] bool pixels_on_gpu() const;
  // Batches that `classify` has under way: `streams`, and where a GPU infers as many again, which are decoded while
  // those are on the GPU.
  [[nodiscard]] int batches_at_once() const;
  // What the network computes in.
  [[nodiscard]] Precision precision() const;

 private:
  struct State;
  // Leaves it where it is in a forked process, whose copy of it has lost its threads.
  struct Discard {
    void operator()(State* state) const;
  };
  [[nodiscard]] State& state() const;    // throws where it was moved from
  [[nodiscard]] State& running() const;  // throws in another process too
  void preprocess_on(std::size_t threads, const ImageSource& image, float* out) const;
  void classify_on_engine(const std::vector<ImageSource>& images, std::vector<std::optional<ImageError>>& failures,
                          std::vector<float>& logits, StageTimes* times) const;
  void classify_batch(const std::vector<ImageSource>& images, std::size_t begin, std::size_t end,
                      std::vector<Answer>& answers) const;
  std::unique_ptr<State, Discard> state_;
};

}  // namespace vitrify
