// A Vision Transformer on an NVIDIA GPU, without TensorRT and without PyTorch.
//
// Here an artifact is opened and held to its spec, and batches are dealt out to workers. What a network is and how it
// is found in the graph is cuda/vit.hpp, what runs it cuda/network.hpp, its kernels src/cuda.
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/network.hpp"
#include "cuda/scales.hpp"
#include "cuda/vit.hpp"
#include "cuda_memory.hpp"
#include "engines.hpp"
#include "image_stage.hpp"
#include "launch.hpp"
#include "machine/cache.hpp"
#include "pool.hpp"
#include "spec/onnx_form.hpp"
#include "vit_kernels.hpp"

namespace vitrify::engines {
namespace {

// A larger batch goes in parts.
constexpr std::size_t kLargestBatch = 256;

// The GPU and its driver, for whom it has to be one that the kernels are compiled for. A GPU in between runs what is
// compiled for the one below it.
std::string required_gpu() {
  int device = 0;
  cudaDeviceProp properties{};
  check(cudaGetDevice(&device), "there is no GPU");
  check(cudaGetDeviceProperties(&properties, device), "the GPU does not say what it is");
  if (properties.major < 8) {
    throw DeviceError("the cuda engine does not run on this GPU",
                      std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
                          std::to_string(properties.minor),
                      "8.0 or newer");
  }
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "there is no driver");
  return std::string(properties.name) + ", CUDA driver " + std::to_string(driver / 1000) + '.' +
         std::to_string(driver % 1000 / 10);
}

// What is tuned is a few kilobytes: without a folder of its own it lies in the user's cache, as verdicts do.
Tunings tunings_of(const EngineOptions& options) {
  const std::filesystem::path folder =
      options.cache_folder.empty() ? machine::cache_folder() : std::filesystem::path(options.cache_folder);
  return folder.empty() ? Tunings() : Tunings(folder / "cublaslt");
}

Vit checked(Vit vit, const std::string& path) {
  const auto refuse = [&](const std::string& got, const std::string& expected) {
    throw ArtifactError("the cuda engine does not compute the network of " + path, got, expected,
                        "run it with another engine");
  };
  if (!cuda::attention_fits(vit.head, vit.tokens)) {
    refuse("heads of " + std::to_string(vit.head) + ", " + std::to_string(vit.tokens) + " tokens",
           "heads of 32, 48, 64, 80, 96 or 128, whose keys and values fit into 227 KiB");
  }
  if (vit.width % 16 != 0 || vit.hidden % 16 != 0 || vit.width > cuda::kWidestNorm || vit.patch % 2 != 0) {
    refuse("width " + std::to_string(vit.width) + ", MLP " + std::to_string(vit.hidden) + ", patch " +
               std::to_string(vit.patch),
           "multiples of 16, a width of " + std::to_string(cuda::kWidestNorm) + " at most, an even patch");
  }
  return vit;
}

class CudaEngine final : public Engine {
 public:
  CudaEngine(const std::string& path, const ModelSpec& spec, const EngineOptions& options)
      : preprocess_(spec.preprocess), item_(spec.tensor_size()), classes_(spec.labels.size()) {
    device_ = required_gpu();
    std::vector<Magnitudes> magnitudes;
    {
      spec::require_known_form(path);
      const OnnxGraph graph = read_onnx_graph(path);
      const Vit vit = checked(vit_from_graph(graph, spec, path), path);
      if (options.precision == Precision::fp8) {
        magnitudes = read_scales(path, vit.blocks.size());
      }
      weights_ = std::make_unique<Weights>(vit, magnitudes);
    }
    for (int i = 0; i < options.streams; ++i) {
      auto worker = std::make_unique<Worker>(*weights_, tunings_of(options));
      version_ = worker->network.products().version();
      workers_.add(std::move(worker));
      for (int stage = 0; stage < 2; ++stage) {  // one to be filled while the other one is inferred
        stages_.add(std::make_unique<ImageStage>(preprocess_, nullptr));
      }
    }
  }

  void infer(const float* tensors, std::size_t count, float* logits) override {
    Pool<std::unique_ptr<Worker>>::Lease lease(workers_);
    Worker& worker = *lease.item();
    const std::size_t parts = (count + kLargestBatch - 1) / kLargestBatch;
    for (std::size_t part = 0, begin = 0; part < parts; ++part) {
      const std::size_t rows = (count - begin) / (parts - part);
      worker.reserve(rows, item_, classes_);
      std::memcpy(worker.input.get(), tensors + begin * item_, rows * item_ * sizeof(float));
      check(cudaMemcpyAsync(worker.network.pixels(), worker.input.get(), rows * item_ * sizeof(float),
                            cudaMemcpyHostToDevice, worker.network.stream()),
            "CUDA does not copy");
      worker.finish(rows, false, classes_, logits + begin * classes_);
      begin += rows;
    }
  }

  [[nodiscard]] bool prepares_images() const noexcept override { return true; }

  void infer_images(const std::vector<StoredImage>& images, const Decode& decode, float* logits,
                    StageTimes* times) override {
    if (images.empty()) {
      return;
    }
    Pool<std::unique_ptr<ImageStage>>::Lease stage(stages_);
    stage.item()->fill(images, decode, times != nullptr);
    const auto filled = std::chrono::steady_clock::now();
    Pool<std::unique_ptr<Worker>>::Lease lease(workers_);
    Worker& worker = *lease.item();
    const auto begin = std::chrono::steady_clock::now();
    worker.reserve(images.size(), item_, classes_);
    const cudaStream_t stream = worker.network.stream();
    check(cudaStreamWaitEvent(stream, stage.item()->ready(), 0), "CUDA does not wait for a copy");
    check(cuda::launch(stage.item()->batch(), preprocess_, true, worker.network.pixels(), stream),
          "CUDA does not start the preprocessing");
    worker.finish(images.size(), true, classes_, logits);
    if (times != nullptr) {
      const auto ms = [](auto from, auto to) { return std::chrono::duration<double, std::milli>(to - from).count(); };
      stage.item()->tell(*times);
      times->wait = ms(filled, begin);
      times->inference = ms(begin, std::chrono::steady_clock::now());  // preprocessing included
    }
  }

  [[nodiscard]] std::string name() const override { return "cuda"; }
  [[nodiscard]] std::string version() const override { return "cublasLt " + version_; }
  [[nodiscard]] std::string device() const override { return device_; }

 private:
  struct Worker {
    Worker(const Weights& weights, Tunings tunings)
        : network(weights, std::move(tunings)), done(create_event(cudaEventBlockingSync | cudaEventDisableTiming)) {}

    void reserve(std::size_t count, std::size_t item, std::size_t classes) {
      if (count > room) {
        network.reserve(static_cast<int>(count));
        input = pinned_memory(count * item * sizeof(float));
        output = pinned_memory(count * classes * sizeof(float));
        room = count;
      }
    }

    void finish(std::size_t count, bool half, std::size_t classes, float* logits) {
      const std::string problem = "the GPU failed on a batch of " + std::to_string(count);
      network.run(static_cast<int>(count), half);
      check(cudaMemcpyAsync(output.get(), network.logits(), count * classes * sizeof(float), cudaMemcpyDeviceToHost,
                            network.stream()),
            "CUDA does not copy");
      if (count <= 8) {
        check(cudaStreamSynchronize(network.stream()), problem);  // awake: some microseconds shorter
      } else {
        check(cudaEventRecord(done.get(), network.stream()), "CUDA records no event");
        check(cudaEventSynchronize(done.get()), problem);  // asleep: the core decodes the next batch meanwhile
      }
      std::memcpy(logits, output.get(), count * classes * sizeof(float));
    }

    Network network;
    Event done;
    PinnedMemory input;
    PinnedMemory output;
    std::size_t room = 0;
  };

  Preprocess preprocess_;
  std::size_t item_;
  std::size_t classes_;
  std::string version_;
  std::string device_;
  std::unique_ptr<Weights> weights_;
  Pool<std::unique_ptr<Worker>> workers_;
  Pool<std::unique_ptr<ImageStage>> stages_;
};

}  // namespace

bool cuda_has_native(Precision precision) { return precision == Precision::fp16 || precision == Precision::fp8; }

std::unique_ptr<Engine> open_cuda(const std::string& path, const ModelSpec& spec, const EngineOptions& options) {
  if (!cuda_has_native(options.precision)) {
    throw OptionError(std::string("cuda cannot run in ") + name_of(options.precision), {}, "fp16 or fp8",
                      "--precision fp16");
  }
  if (options.jpeg_decoder == JpegDecoder::nvjpeg) {
    throw OptionError("the cuda engine does not decode with nvJPEG", {}, "JPEGs on the CPU");
  }
  return std::make_unique<CudaEngine>(path, spec, options);
}

}  // namespace vitrify::engines
