// Runs batches of one TensorRT engine, one after the other.
//
// A worker has its own context, stream and buffers, taken once for the largest batch. A batch size that is new runs
// kernel by kernel; one that repeats is one launch of a recorded graph. Images come from a stage, and become the
// network's input on the GPU.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "cuda_memory.hpp"
#include "image_stage.hpp"
#include "preprocess.hpp"
#include "tensorrt_release.hpp"
#include "vitrify/engine.hpp"

namespace vitrify::engines {

// The engine and what of it never changes.
struct Network {
  std::string path;
  std::string input;
  std::string output;
  nvinfer1::DataType input_type = nvinfer1::DataType::kFLOAT;
  nvinfer1::DataType output_type = nvinfer1::DataType::kFLOAT;
  std::size_t item = 0;     // values in one image's tensor
  std::size_t classes = 0;  // values in one row of logits
  nvinfer1::Dims shape{};   // of the input, batch included
  int smallest = 1;
  int largest = 1;
};

// Not for several threads at once. The engine, the network and the preprocessing must outlive it.
class Worker {
 public:
  // Takes the memory for the profile's largest batch. Throws DeviceError where the GPU has less.
  Worker(nvinfer1::ICudaEngine& engine, const Network& network, const Preprocess& preprocess, int profile);

  // Tensors or images to logits, at most network.largest of them. Throws RuntimeFailureError.
  void infer(const float* tensors, std::size_t count, float* logits);
  void infer_images(const ImageStage& stage, float* logits, StageTimes* times);

 private:
  // A batch size, and whether the copy of its tensors to the GPU belongs to it.
  using Key = std::pair<int, bool>;
  // Each has a context of its own: more sizes than a server has in use only cost memory.
  static constexpr std::size_t kMostGraphs = 32;

  static constexpr int kMostSpoiled = 8;

  struct Recorded {
    Owned<nvinfer1::IExecutionContext> context;  // of its own, where the release permits; nothing may change it
    ExecutableGraph graph;
  };

  Owned<nvinfer1::IExecutionContext> new_context();

  // A batch below the profile takes rows of an earlier one along, whose logits nobody reads.
  [[nodiscard]] int padded(std::size_t count) const { return std::max(static_cast<int>(count), network_->smallest); }

  // From the caller's memory to the page-locked input, and back from the output.
  void take(const float* tensors, std::size_t values);
  void give(float* logits, std::size_t values) const;

  // Runs a batch by its graph, or kernel by kernel where its size is new.
  void enqueue(Key key);
  void bind(nvinfer1::IExecutionContext& context, int count);
  void work(nvinfer1::IExecutionContext& context, Key key);
  // Waits for the batch, once.
  void finish(std::size_t count, float* logits);

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
  Event done_;
  Marks marks_;
  // After the memory, so that they end before it.
  Owned<nvinfer1::IExecutionContext> context_;
  std::map<Key, Recorded> recorded_;
  std::set<Key> seen_;
  Key last_{0, false};
  int spoiled_ = 0;  // recordings that failed
};

}  // namespace vitrify::engines
