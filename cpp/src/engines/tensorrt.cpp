// TensorRT 8.5 to 11 and TensorRT-RTX on an NVIDIA GPU.
//
// A worker has its own context, stream and buffers, taken once for the largest batch. The first batch of a size runs
// kernel by kernel; from the second on, that size is one launch of a recorded graph. Images are decoded into
// page-locked memory, copied as they are, and become the network's input on the GPU.
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include <cuda_fp16.h>

#include "cuda_memory.hpp"
#include "engines.hpp"
#include "launch.hpp"
#include "manifest.hpp"
#include "tensorrt_release.hpp"

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

std::size_t element_bytes(DataType type) { return type == DataType::kHALF ? 2 : 4; }

// The engine and what of it never changes.
struct Network {
  std::string path;
  std::string input;
  std::string output;
  DataType input_type = DataType::kFLOAT;
  DataType output_type = DataType::kFLOAT;
  std::size_t item = 0;     // values in one image's tensor
  std::size_t classes = 0;  // values in one row of logits
  Dims shape{};             // of the input, batch included
  int smallest = 1;
  int largest = 1;
};

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

// One inference at a time. Not for several threads at once.
class Worker {
 public:
  Worker(nvinfer1::ICudaEngine& engine, const Network& network, const Preprocess& preprocess, int profile)
      : engine_(&engine),
        network_(&network),
        preprocess_(&preprocess),
        profile_(profile),
        stream_(create_stream()),
        scratch_bytes_(scratch_bytes(engine)),
        scratch_(device_memory(scratch_bytes_)) {
    const auto largest = static_cast<std::size_t>(network.largest);
    input_bytes_ = network.item * element_bytes(network.input_type);
    output_bytes_ = network.classes * element_bytes(network.output_type);
    device_input_ = device_memory(largest * input_bytes_);
    device_output_ = device_memory(largest * output_bytes_);
    pinned_input_ = pinned_memory(largest * input_bytes_);
    pinned_output_ = pinned_memory(largest * output_bytes_);
    const cuda::Table table = cuda::normalised(preprocess);
    table_ = device_memory(sizeof(table));
    check(cudaMemcpy(table_.get(), table.data(), sizeof(table), cudaMemcpyHostToDevice), "CUDA does not copy");
    context_ = new_context();
  }

  void infer(const float* tensors, std::size_t count, float* logits) {
    take(tensors, count * network_->item);
    enqueue({padded(count), true});
    finish(count, logits);
  }

  void infer_images(const StoredImage* images, std::size_t count,
                    const std::function<void(std::uint8_t* const* places)>& decode, float* logits) {
    plan_.clear();
    std::vector<std::size_t> offsets;
    for (std::size_t i = 0; i < count; ++i) {
      offsets.push_back(plan_.add(images[i].size, images[i].orientation, *preprocess_));
    }
    // The pixels, the jobs and the tables, one behind the other, so that one copy takes them all.
    const std::size_t jobs = plan_.pixel_bytes;
    const std::size_t numbers = jobs + count * sizeof(cuda::Job);
    const std::size_t bytes = numbers + plan_.numbers.size() * sizeof(std::int32_t);
    reserve(bytes);
    auto* staged = static_cast<std::uint8_t*>(staged_.get());
    std::vector<std::uint8_t*> places;
    for (const std::size_t offset : offsets) {
      places.push_back(staged + offset);
    }
    decode(places.data());
    std::memcpy(staged + jobs, plan_.jobs.data(), numbers - jobs);
    std::memcpy(staged + numbers, plan_.numbers.data(), bytes - numbers);
    auto* there = static_cast<std::uint8_t*>(device_images_.get());
    check(cudaMemcpyAsync(there, staged, bytes, cudaMemcpyHostToDevice, stream_.get()), "CUDA does not copy");
    const cuda::Batch batch{reinterpret_cast<const cuda::Job*>(there + jobs),
                            reinterpret_cast<const std::int32_t*>(there + numbers), there,
                            static_cast<const float*>(table_.get()), static_cast<unsigned>(count)};
    check(
        cuda::launch(batch, *preprocess_, network_->input_type == DataType::kHALF, device_input_.get(), stream_.get()),
        "CUDA does not start the preprocessing");
    enqueue({padded(count), false});
    finish(count, logits);
  }

 private:
  // A batch size, and whether the copy of its tensors to the GPU belongs to it.
  using Key = std::pair<int, bool>;
  // Each has a context of its own: more sizes than a server has in use only cost memory.
  static constexpr std::size_t kMostGraphs = 32;

  struct Recorded {
    Owned<nvinfer1::IExecutionContext> context;  // of its own, where the release permits; nothing may change it
    ExecutableGraph graph;
  };

  Owned<nvinfer1::IExecutionContext> new_context() {
    auto context = create_context(*engine_, scratch_.get(), scratch_bytes_);
    if (!context) {
      throw DeviceError("the GPU has not enough memory for another execution context", {}, {},
                        "use fewer streams, or build with a smaller largest batch (--profile)");
    }
    if (!context->setOptimizationProfileAsync(profile_, stream_.get())) {
      throw RuntimeFailureError("TensorRT refuses its profile " + std::to_string(profile_));
    }
    check(cudaStreamSynchronize(stream_.get()), "the GPU failed to take a profile");
    return context;
  }

  // A batch below the profile takes rows of an earlier one along, whose logits nobody reads.
  [[nodiscard]] int padded(std::size_t count) const { return std::max(static_cast<int>(count), network_->smallest); }

  void take(const float* tensors, std::size_t values) {
    if (network_->input_type == DataType::kFLOAT) {
      std::memcpy(pinned_input_.get(), tensors, values * sizeof(float));
    } else {
      std::transform(tensors, tensors + values, static_cast<__half*>(pinned_input_.get()),
                     [](float value) { return __float2half(value); });
    }
  }

  void finish(std::size_t count, float* logits) {
    check(cudaStreamSynchronize(stream_.get()), "the GPU failed on a batch of " + std::to_string(count));
    give(logits, count * network_->classes);
  }

  // Room for the images of a batch; it grows with the largest batch so far, and then no more.
  void reserve(std::size_t bytes) {
    if (bytes <= image_capacity_) {
      return;
    }
    const std::size_t capacity = bytes + bytes / 4;
    image_capacity_ = 0;
    staged_.reset();
    device_images_.reset();
    staged_ = pinned_memory(capacity);
    device_images_ = device_memory(capacity);
    image_capacity_ = capacity;
  }

  void give(float* logits, std::size_t values) const {
    if (network_->output_type == DataType::kFLOAT) {
      std::memcpy(logits, pinned_output_.get(), values * sizeof(float));
    } else {
      const auto* halves = static_cast<const __half*>(pinned_output_.get());
      std::transform(halves, halves + values, logits, [](__half value) { return __half2float(value); });
    }
  }

  // Runs a batch by its graph, or kernel by kernel where its size is new.
  void enqueue(Key key) {
    const auto found = recorded_.find(key);
    if (found != recorded_.end()) {
      check(cudaGraphLaunch(found->second.graph.get(), stream_.get()), "CUDA does not launch a graph");
      return;
    }
    if (!kSharesProfiles) {
      recorded_.clear();  // the only context is about to change
    }
    // With one context, a size is worth recording where it follows itself; with many, where it comes again.
    const bool again = kSharesProfiles ? !seen_.insert(key).second && recorded_.size() < kMostGraphs : key == last_;
    last_ = key;
    if (!again) {
      bind(*context_, key.first);
      work(*context_, key);
      return;
    }
    Recorded record;
    if (kSharesProfiles) {
      record.context = new_context();
    }
    nvinfer1::IExecutionContext& context = record.context ? *record.context : *context_;
    bind(context, key.first);
    work(context, key);  // once outside the graph: TensorRT sets itself up for the shape
    check(cudaStreamSynchronize(stream_.get()), "the GPU failed on a batch of " + std::to_string(key.first));
    record.graph = recorded(stream_.get(), [&] { work(context, key); });
    recorded_.emplace(key, std::move(record));
  }

  void bind(nvinfer1::IExecutionContext& context, int count) {
    Dims shape = network_->shape;
    shape.d[0] = count;
    if (!context.setInputShape(network_->input.c_str(), shape) ||
        !context.setTensorAddress(network_->input.c_str(), device_input_.get()) ||
        !context.setTensorAddress(network_->output.c_str(), device_output_.get())) {
      throw RuntimeFailureError("TensorRT refuses a batch of " + std::to_string(count));
    }
  }

  void work(nvinfer1::IExecutionContext& context, Key key) {
    const auto [count, copies] = key;
    const auto rows = static_cast<std::size_t>(count);
    if (copies) {
      check(cudaMemcpyAsync(device_input_.get(), pinned_input_.get(), rows * input_bytes_, cudaMemcpyHostToDevice,
                            stream_.get()),
            "CUDA does not copy");
    }
    if (!context.enqueueV3(stream_.get())) {
      throw RuntimeFailureError("TensorRT failed on a batch of " + std::to_string(count), {}, {},
                                "vitrify-classify --verify says whether the engine still is right");
    }
    check(cudaMemcpyAsync(pinned_output_.get(), device_output_.get(), rows * output_bytes_, cudaMemcpyDeviceToHost,
                          stream_.get()),
          "CUDA does not copy");
  }

  nvinfer1::ICudaEngine* engine_;
  const Network* network_;
  const Preprocess* preprocess_;
  int profile_;
  Stream stream_;
  std::size_t scratch_bytes_;
  std::size_t input_bytes_ = 0;
  std::size_t output_bytes_ = 0;
  DeviceMemory scratch_;
  DeviceMemory device_input_;
  DeviceMemory device_output_;
  PinnedMemory pinned_input_;
  PinnedMemory pinned_output_;
  DeviceMemory table_;
  cuda::Plan plan_;
  std::size_t image_capacity_ = 0;
  PinnedMemory staged_;
  DeviceMemory device_images_;
  // After the memory, so that they end before it.
  Owned<nvinfer1::IExecutionContext> context_;
  std::map<Key, Recorded> recorded_;
  std::set<Key> seen_;
  Key last_{0, false};
};

class TensorRtEngine final : public Engine {
 public:
  TensorRtEngine(const std::string& path, const ModelSpec& spec, const EngineOptions& options)
      : preprocess_(spec.preprocess), logger_(options.log), runtime_(nvinfer1::createInferRuntime(logger_)) {
    if (!runtime_) {
      throw RuntimeFailureError("TensorRT does not start", logger_.last_error());
    }
    const Manifest manifest = read_manifest(path);
    require_fit(path, manifest, {kRtx, tensorrt_version()}, current_gpu());
    const std::string plan = read_plan(path, manifest);
    if (manifest.version_compatible) {
      allow_host_code(*runtime_);
    }
    engines_.push_back(deserialised(plan, path));
    network_ = network_of(*engines_.front(), spec, path);
    const int profile = widest_profile(*engines_.front(), network_);
    for (int i = 0; i < options.streams; ++i) {
      if (i > 0 && !kSharesProfiles) {
        engines_.push_back(deserialised(plan, path));
      }
      idle_.push_back(std::make_unique<Worker>(*engines_.back(), network_, preprocess_, profile));
    }
  }

  void infer(const float* tensors, std::size_t count, float* logits) override {
    in_parts(count, [&](Worker& worker, std::size_t begin, std::size_t rows) {
      worker.infer(tensors + begin * network_.item, rows, logits + begin * network_.classes);
    });
  }

  [[nodiscard]] bool prepares_images() const noexcept override { return true; }

  void infer_images(const std::vector<StoredImage>& images, const Decode& decode, float* logits) override {
    if (images.size() > static_cast<std::size_t>(network_.largest)) {
      throw RuntimeFailureError("the engine has no profile for a batch of " + std::to_string(images.size()), {},
                                std::to_string(network_.smallest) + " to " + std::to_string(network_.largest));
    }
    in_parts(images.size(), [&](Worker& worker, std::size_t /*begin*/, std::size_t rows) {
      worker.infer_images(
          images.data(), rows,
          [&](std::uint8_t* const* places) {
            decode({places, places + rows});
          },
          logits);
    });
  }

  [[nodiscard]] std::string name() const override { return "tensorrt"; }
  [[nodiscard]] std::string version() const override { return tensorrt_version(); }

 private:
  // A larger batch than the profile's goes in parts of nearly equal size.
  template <typename Run>
  void in_parts(std::size_t count, Run run) {
    const Lease worker(*this);
    const auto largest = static_cast<std::size_t>(network_.largest);
    const std::size_t parts = (count + largest - 1) / largest;
    for (std::size_t part = 0, begin = 0; part < parts; ++part) {
      const std::size_t rows = (count - begin) / (parts - part);
      run(worker.worker(), begin, rows);
      begin += rows;
    }
  }

  // A worker, for as long as a batch runs.
  class Lease {
   public:
    explicit Lease(TensorRtEngine& engine) : engine_(&engine) {
      std::unique_lock lock(engine.mutex_);
      engine.returned_.wait(lock, [&] { return !engine.idle_.empty(); });
      worker_ = std::move(engine.idle_.back());
      engine.idle_.pop_back();
    }
    ~Lease() {
      {
        const std::lock_guard lock(engine_->mutex_);
        engine_->idle_.push_back(std::move(worker_));  // into capacity that it had before: cannot throw
      }
      engine_->returned_.notify_one();
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    [[nodiscard]] Worker& worker() const { return *worker_; }

   private:
    TensorRtEngine* engine_;
    std::unique_ptr<Worker> worker_;
  };

  static Gpu current_gpu() {
    int device = 0;
    cudaDeviceProp properties{};
    check(cudaGetDevice(&device), "there is no GPU");
    check(cudaGetDeviceProperties(&properties, device), "the GPU does not say what it is");
    return {properties.name, std::to_string(properties.major) + "." + std::to_string(properties.minor)};
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
  Logger logger_;
  Owned<nvinfer1::IRuntime> runtime_;
  std::vector<Owned<nvinfer1::ICudaEngine>> engines_;
  Network network_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Worker>> idle_;
};

}  // namespace

bool tensorrt_has_native(Precision /*precision*/) { return true; }

std::unique_ptr<Engine> open_tensorrt(const std::string& path, const ModelSpec& spec, const EngineOptions& options) {
  if (options.precision != Precision::fp32) {
    throw OptionError(std::string("an engine cannot be run in ") + name_of(options.precision), {},
                      "auto: its arithmetic was decided when it was built");
  }
  return std::make_unique<TensorRtEngine>(path, spec, options);
}

}  // namespace vitrify::engines
