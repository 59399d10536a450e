// What runs a network: tensors in, logits out. One file in src/engines for each, each optional in CMake.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "vitrify/export.h"
#include "vitrify/spec.hpp"

namespace vitrify {

// As TensorRT orders them.
enum class LogSeverity : std::uint8_t { internal_error, error, warning, info, verbose };
using LogSink = std::function<void(LogSeverity severity, const char* text)>;

// What decodes JPEGs where a GPU prepares the images. nvJPEG's pixels differ a little from libjpeg-turbo's, which are
// those of training, so that it is used only where it is asked for: docs/explanation/pixels.md has the drift.
// `automatic` takes it where the build and the GPU have it.
enum class JpegDecoder : std::uint8_t { cpu, nvjpeg, automatic };

struct EngineOptions {
  Precision precision = Precision::fp32;
  // Runs an 8-bit network in floats: its weights are folded into floats before it is compiled, and no 8-bit product is
  // left. Activations stay rounded.
  bool dequantize = false;
  // Threads of all inferences together; 0 for one a core that this process may use.
  int threads = 0;
  // Inferences that run at once, each with its share of the threads: one gives the shortest latency, one a thread the
  // most images a second.
  int streams = 1;
  // Where compiled networks are kept, so that the next start is short; empty for nowhere. The cuda engine keeps a few
  // kilobytes of choices there, and where this is empty, in the user's cache.
  std::string cache_folder;
  // Takes what the engine's library has to say; without it, its last error is part of the exception, and the rest is
  // lost.
  LogSink log;
  JpegDecoder jpeg_decoder = JpegDecoder::cpu;
};

// An image whose header was read and whose limits were checked.
struct StoredImage {
  Size size;            // as stored
  int orientation = 1;  // EXIF's, 1 to 8
  // The encoded file, where it is a JPEG of the plain kind: baseline, 8 bits, grey or YCbCr, complete. Else null.
  const std::uint8_t* jpeg = nullptr;
  std::size_t jpeg_bytes = 0;
};

// Milliseconds that the stages of one batch took; 0 for a stage that it did not go through.
struct StageTimes {
  double decode = 0;      // reading files and decoding on the CPU, which without a GPU resizes and normalises too
  double wait = 0;        // for a stream of the GPU that is free
  double nvjpeg = 0;      // decoding on the GPU, after the CPU has parsed the files
  double copy = 0;        // pixels to the GPU
  double preprocess = 0;  // resizing, cropping and normalising on the GPU
  double inference = 0;   // the network, its tensors' copies included
  double post = 0;        // logits to labels
};

// The part of a stored image that an engine reads, and where it wants it.
struct PixelWindow {
  std::uint8_t* rgb = nullptr;  // [size.height, size.width, 3], rows without padding
  int column = 0;               // of the stored image, the window's first
  int row = 0;
  Size size;
};

// An open network. It may be called from any number of threads; more than `streams` of them wait for each other.
class VITRIFY_API Engine {
 public:
  Engine() = default;
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Runs `count` images. `tensors` is [count, 3, height, width] float32 NCHW, `logits` is [count, labels] float32.
  // Throws RuntimeFailureError, and ArtifactError where what comes out is not of that shape.
  virtual void infer(const float* tensors, std::size_t count, float* logits) = 0;

  // Whether the engine resizes, crops and normalises images itself, to the CPU core's tensors bit by bit.
  [[nodiscard]] virtual bool prepares_images() const noexcept { return false; }

  // Runs images that the engine prepares. `decode` gets a window for each, to write its 8-bit RGB to as it is stored;
  // a window without memory belongs to an image that the engine decodes itself. `logits` is [images, labels]; `times`,
  // where it is not null, gets what the engine's stages took. Throws RuntimeFailureError, ImageError for a size that
  // cannot be resized, and what `decode` throws.
  using Decode = std::function<void(const std::vector<PixelWindow>& windows)>;
  virtual void infer_images(const std::vector<StoredImage>& images, const Decode& decode, float* logits,
                            StageTimes* times = nullptr);

  // What decodes JPEGs on the GPU, such as "nvjpeg, hardware"; empty where the CPU decodes every image.
  [[nodiscard]] virtual std::string jpeg_decoder() const { return {}; }

  // Such as "openvino" and "2026.4.1".
  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual std::string version() const = 0;

  // The GPU and its driver; empty for the processor.
  [[nodiscard]] virtual std::string device() const { return {}; }
};

// The runtimes of this build: the libraries that run artifacts.
[[nodiscard]] VITRIFY_API std::vector<std::string> available_runtimes();

// The runtime for such a file: `name` itself, or the first that does where it is "auto". Throws OptionError.
[[nodiscard]] VITRIFY_API std::string runtime_for(const std::string& path, const std::string& name = "auto");

// Whether a runtime computes in this precision natively on this machine; false for one that is not in the build.
[[nodiscard]] VITRIFY_API bool has_native(const std::string& runtime, Precision precision);

// Opens an artifact. `name` is one of available_runtimes(), or "auto" for the one that runs such a file. Throws
// OptionError for a name or an option that does not fit, ArtifactError where graph and spec disagree, ProcessorError
// where 8-bit products would saturate on this processor, RuntimeFailureError where the engine refuses the network.
[[nodiscard]] VITRIFY_API std::unique_ptr<Engine> open_engine(const std::string& path, const ModelSpec& spec,
                                                              const EngineOptions& options = {},
                                                              const std::string& name = "auto");

}  // namespace vitrify
