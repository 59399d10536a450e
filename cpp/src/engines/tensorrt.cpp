// TensorRT 8.5 to 11 and TensorRT-RTX on an NVIDIA GPU.
//
// Here an engine is loaded and held to its manifest and its spec, and batches are dealt out to its workers.
#include <chrono>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cuda_memory.hpp"
#include "engines.hpp"
#include "gpu_jpeg.hpp"
#include "image_stage.hpp"
#include "manifest.hpp"
#include "pool.hpp"
#include "tensorrt_release.hpp"
#include "tensorrt_worker.hpp"

namespace vitrify::engines {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;

class Logger final : public nvinfer1::ILogger {
 public:
  explicit Logger(LogSink sink) : sink_(std::move(sink)) {}

  void log(Severity severity, const char* text) noexcept override {
    try {
      if (severity <= Severity::kERROR) {
        const std::lock_guard lock(mutex_);
        last_error_ = text;
      }
      if (sink_) {
        sink_(static_cast<LogSeverity>(severity), text);
      }
    } catch (...) {
      return;  // a message that cannot be kept must not end the program
    }
  }

  [[nodiscard]] std::string last_error() const {
    const std::lock_guard lock(mutex_);
    return last_error_;
  }

 private:
  LogSink sink_;
  mutable std::mutex mutex_;
  std::string last_error_;
};

std::string shown(const Dims& dims) {
  std::string text;
  for (int i = 0; i < dims.nbDims; ++i) {
    text += (i == 0 ? "[" : ", ") + std::to_string(dims.d[i]);
  }
  return text + "]";
}

DataType float_type(const nvinfer1::ICudaEngine& engine, const std::string& name, const std::string& path) {
  const DataType type = engine.getTensorDataType(name.c_str());
  if (type != DataType::kFLOAT && type != DataType::kHALF) {
    throw EngineError("the tensor " + name + " of " + path + " is not of a type that can be served",
                      std::to_string(static_cast<int>(type)), "float32 or float16");
  }
  return type;
}

Network network_of(const nvinfer1::ICudaEngine& engine, const ModelSpec& spec, const std::string& path) {
  std::string got;
  bool has_input = false;
  bool has_output = false;
  for (int i = 0; i < engine.getNbIOTensors(); ++i) {
    const char* name = engine.getIOTensorName(i);
    const bool is_input = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
    has_input = has_input || (is_input && spec.input.name == name);
    has_output = has_output || (!is_input && spec.output.name == name);
    got += (got.empty() ? "" : ", ") + std::string(name) + " " + shown(engine.getTensorShape(name));
  }
  Network network;
  network.path = path;
  network.input = spec.input.name;
  network.output = spec.output.name;
  network.item = spec.tensor_size();
  network.classes = spec.labels.size();
  const Size crop = spec.preprocess.crop;
  bool fits = has_input && has_output && engine.getNbIOTensors() == 2;
  if (fits) {
    network.shape = engine.getTensorShape(network.input.c_str());
    const Dims output = engine.getTensorShape(network.output.c_str());
    fits = network.shape.nbDims == 4 && network.shape.d[1] == 3 && network.shape.d[2] == crop.height &&
           network.shape.d[3] == crop.width && output.nbDims == 2 &&
           output.d[1] == static_cast<std::int64_t>(network.classes);
  }
  if (!fits) {
    throw EngineError("the engine and the spec of " + path + " disagree", got,
                      network.input + " [B, 3, " + std::to_string(crop.height) + ", " + std::to_string(crop.width) +
                          "] and " + network.output + " [B, " + std::to_string(network.classes) + "]",
                      "vitrify build " + path + " --rebuild");
  }
  network.input_type = float_type(engine, network.input, path);
  network.output_type = float_type(engine, network.output, path);
  return network;
}

// The optimisation profile that reaches furthest, and its bounds.
int widest_profile(const nvinfer1::ICudaEngine& engine, Network& network) {
  int widest = 0;
  for (int i = 0; i < engine.getNbOptimizationProfiles(); ++i) {
    const auto bound = [&](nvinfer1::OptProfileSelector which) {
      return static_cast<int>(engine.getProfileShape(network.input.c_str(), i, which).d[0]);
    };
    const int largest = bound(nvinfer1::OptProfileSelector::kMAX);
    if (i == 0 || largest > network.largest) {
      widest = i;
      network.largest = largest;
      network.smallest = bound(nvinfer1::OptProfileSelector::kMIN);
    }
  }
  return widest;
}

// What decodes JPEGs on the GPU; null where the CPU does.
std::unique_ptr<GpuJpegs> gpu_jpegs(JpegDecoder choice) {
  if (choice == JpegDecoder::cpu) {
    return nullptr;
  }
#ifdef VITRIFY_NVJPEG
  try {
    return open_nvjpeg();
  } catch (const DeviceError&) {
    if (choice == JpegDecoder::nvjpeg) {
      throw;
    }
  }
#else
  if (choice == JpegDecoder::nvjpeg) {
    throw OptionError("this build has no nvJPEG", {}, {}, "decode on the CPU, or build where CMake finds nvJPEG");
  }
#endif
  return nullptr;
}

class TensorRtEngine final : public Engine {
 public:
  TensorRtEngine(const std::string& path, const ModelSpec& spec, const EngineOptions& options)
      : preprocess_(spec.preprocess), logger_(options.log), runtime_(nvinfer1::createInferRuntime(logger_)) {
    if (!runtime_) {
      throw RuntimeFailureError("TensorRT does not start", logger_.last_error());
    }
    const Manifest manifest = read_manifest(path);
    const Gpu gpu = current_gpu();
    require_fit(path, manifest, {kRtx, tensorrt_version()}, gpu);
    device_ = gpu.name + ", driver " + driver_version();
    const std::string plan = read_plan(path, manifest);
    if (manifest.version_compatible) {
      allow_host_code(*runtime_);
    }
    engines_.push_back(deserialised(plan, path));
    network_ = network_of(*engines_.front(), spec, path);
    const int profile = widest_profile(*engines_.front(), network_);
    jpegs_ = gpu_jpegs(options.jpeg_decoder);
    for (int i = 0; i < options.streams; ++i) {
      if (i > 0 && !kSharesProfiles) {
        engines_.push_back(deserialised(plan, path));
      }
      workers_.add(std::make_unique<Worker>(*engines_.back(), network_, preprocess_, profile));
      for (int stage = 0; stage < 2; ++stage) {  // one to be filled while the other one is inferred
        stages_.add(std::make_unique<ImageStage>(preprocess_, jpegs_ ? jpegs_->decoder() : nullptr));
      }
    }
  }

  void infer(const float* tensors, std::size_t count, float* logits) override {
    in_parts(count, [&](Worker& worker, std::size_t begin, std::size_t rows) {
      worker.infer(tensors + begin * network_.item, rows, logits + begin * network_.classes);
    });
  }

  [[nodiscard]] bool prepares_images() const noexcept override { return true; }

  [[nodiscard]] std::string jpeg_decoder() const override { return jpegs_ ? jpegs_->name() : std::string(); }

  void infer_images(const std::vector<StoredImage>& images, const Decode& decode, float* logits,
                    StageTimes* times) override {
    if (images.empty()) {
      return;
    }
    if (images.size() > static_cast<std::size_t>(network_.largest)) {
      throw RuntimeFailureError("the engine has no profile for a batch of " + std::to_string(images.size()), {},
                                std::to_string(network_.smallest) + " to " + std::to_string(network_.largest));
    }
    Pool<std::unique_ptr<ImageStage>>::Lease stage(stages_);
    stage.item()->fill(images, decode, times != nullptr);
    const auto filled = std::chrono::steady_clock::now();
    Pool<std::unique_ptr<Worker>>::Lease worker(workers_);
    if (times != nullptr) {
      times->wait = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - filled).count();
    }
    worker.item()->infer_images(*stage.item(), logits, times);
  }

  [[nodiscard]] std::string name() const override { return "tensorrt"; }
  [[nodiscard]] std::string version() const override { return tensorrt_version(); }
  [[nodiscard]] std::string device() const override { return device_; }

 private:
  // A larger batch than the profile's goes in parts of nearly equal size.
  template <typename Run>
  void in_parts(std::size_t count, Run run) {
    Pool<std::unique_ptr<Worker>>::Lease worker(workers_);
    const auto largest = static_cast<std::size_t>(network_.largest);
    const std::size_t parts = (count + largest - 1) / largest;
    for (std::size_t part = 0, begin = 0; part < parts; ++part) {
      const std::size_t rows = (count - begin) / (parts - part);
      run(*worker.item(), begin, rows);
      begin += rows;
    }
  }

  static Gpu current_gpu() {
    int device = 0;
    cudaDeviceProp properties{};
    check(cudaGetDevice(&device), "there is no GPU");
    check(cudaGetDeviceProperties(&properties, device), "the GPU does not say what it is");
    return {properties.name, std::to_string(properties.major) + "." + std::to_string(properties.minor)};
  }

  // CUDA says only which of its versions the driver is for; the driver's own number is its kernel module's.
  static std::string driver_version() {
    int cuda = 0;
    check(cudaDriverGetVersion(&cuda), "the driver does not say its version");
    std::string version = "for CUDA " + std::to_string(cuda / 1000) + "." + std::to_string(cuda % 1000 / 10);
    std::ifstream kernel("/proc/driver/nvidia/version");
    for (std::string word; kernel >> word;) {
      if (word.find_first_not_of("0123456789.") == std::string::npos && word.find('.') != std::string::npos) {
        return word + ' ' + version;
      }
    }
    return version;
  }

  Owned<nvinfer1::ICudaEngine> deserialised(const std::string& plan, const std::string& path) {
    Owned<nvinfer1::ICudaEngine> engine(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine) {
      throw EngineError("TensorRT " + tensorrt_version() + " refuses " + path, logger_.last_error(), {},
                        "vitrify build " + path + " --rebuild");
    }
    return engine;
  }

  Preprocess preprocess_;
  std::string device_;
  Logger logger_;
  Owned<nvinfer1::IRuntime> runtime_;
  std::vector<Owned<nvinfer1::ICudaEngine>> engines_;
  Network network_;
  std::unique_ptr<GpuJpegs> jpegs_;
  Pool<std::unique_ptr<Worker>> workers_;
  Pool<std::unique_ptr<ImageStage>> stages_;
};

}  // namespace

bool tensorrt_has_native(Precision /*precision*/) { return true; }

std::unique_ptr<Engine> open_tensorrt(const std::string& path, const ModelSpec& spec, const EngineOptions& options) {
  if (options.precision != Precision::fp32 || options.dequantize) {
    throw OptionError(std::string("an engine cannot be run ") +
                          (options.dequantize ? "dequantised" : std::string("in ") + name_of(options.precision)),
                      {}, "auto: its arithmetic was decided when it was built");
  }
  return std::make_unique<TensorRtEngine>(path, spec, options);
}

}  // namespace vitrify::engines
