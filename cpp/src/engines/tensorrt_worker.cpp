#include "tensorrt_worker.hpp"

#include <algorithm>
#include <cstring>

#include <cuda_fp16.h>

#include "launch.hpp"

namespace vitrify::engines {
namespace {

using nvinfer1::DataType;

std::size_t element_bytes(DataType type) { return type == DataType::kHALF ? 2 : 4; }

}  // namespace

Worker::Worker(nvinfer1::ICudaEngine& engine, const Network& network, const Preprocess& preprocess, int profile)
    : engine_(&engine),
      network_(&network),
      preprocess_(&preprocess),
      profile_(profile),
      stream_(create_stream()),
      scratch_bytes_(scratch_bytes(engine)),
      scratch_(device_memory(scratch_bytes_)),
      done_(create_event(cudaEventBlockingSync | cudaEventDisableTiming)) {
  const auto largest = static_cast<std::size_t>(network.largest);
  input_bytes_ = network.item * element_bytes(network.input_type);
  output_bytes_ = network.classes * element_bytes(network.output_type);
  device_input_ = device_memory(largest * input_bytes_);
  device_output_ = device_memory(largest * output_bytes_);
  pinned_input_ = pinned_memory(largest * input_bytes_);
  pinned_output_ = pinned_memory(largest * output_bytes_);
  context_ = new_context();
}

void Worker::infer(const float* tensors, std::size_t count, float* logits) {
  take(tensors, count * network_->item);
  enqueue({padded(count), true});
  finish(count, logits);
}

void Worker::infer_images(const ImageStage& stage, float* logits, StageTimes* times) {
  const std::size_t count = stage.batch().count;
  const auto mark = [&](std::size_t index) {
    if (times != nullptr) {
      marks_.mark(index, stream_.get());
    }
  };
  check(cudaStreamWaitEvent(stream_.get(), stage.ready(), 0), "CUDA does not wait for a copy");
  mark(0);
  check(cuda::launch(stage.batch(), *preprocess_, network_->input_type == DataType::kHALF, device_input_.get(),
                     stream_.get()),
        "CUDA does not start the preprocessing");
  mark(1);
  enqueue({padded(count), false});
  mark(2);
  finish(count, logits);
  if (times != nullptr) {
    stage.tell(*times);
    times->preprocess = marks_.ms_between(0, 1);
    times->inference = marks_.ms_between(1, 2);
  }
}

Owned<nvinfer1::IExecutionContext> Worker::new_context() {
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

void Worker::take(const float* tensors, std::size_t values) {
  if (network_->input_type == DataType::kFLOAT) {
    std::memcpy(pinned_input_.get(), tensors, values * sizeof(float));
  } else {
    std::transform(tensors, tensors + values, static_cast<__half*>(pinned_input_.get()),
                   [](float value) { return __float2half(value); });
  }
}

void Worker::finish(std::size_t count, float* logits) {
  const std::string problem = "the GPU failed on a batch of " + std::to_string(count);
  if (count == 1) {
    // Whoever asks for one image wants it soon, and waiting awake is some microseconds shorter.
    check(cudaStreamSynchronize(stream_.get()), problem);
  } else {
    check(cudaEventRecord(done_.get(), stream_.get()), "CUDA records no event");
    check(cudaEventSynchronize(done_.get()), problem);  // asleep: the core decodes the next batch meanwhile
  }
  give(logits, count * network_->classes);
}

void Worker::give(float* logits, std::size_t values) const {
  if (network_->output_type == DataType::kFLOAT) {
    std::memcpy(logits, pinned_output_.get(), values * sizeof(float));
  } else {
    const auto* halves = static_cast<const __half*>(pinned_output_.get());
    std::transform(halves, halves + values, logits, [](__half value) { return __half2float(value); });
  }
}

void Worker::enqueue(Key key) {
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
  if (!again || spoiled_ >= kMostSpoiled) {
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
  try {
    record.graph = recorded(stream_.get(), [&] { work(context, key); });
    recorded_.emplace(key, std::move(record));
  } catch (const RuntimeFailureError&) {
    // The batch is done already, and a graph only a shorter way: what another thread or a library does on the GPU may
    // spoil a recording. An engine that cannot be recorded at all is not tried for ever.
    static_cast<void>(cudaGetLastError());
    ++spoiled_;
  }
}

void Worker::bind(nvinfer1::IExecutionContext& context, int count) {
  nvinfer1::Dims shape = network_->shape;
  shape.d[0] = count;
  if (!context.setInputShape(network_->input.c_str(), shape) ||
      !context.setTensorAddress(network_->input.c_str(), device_input_.get()) ||
      !context.setTensorAddress(network_->output.c_str(), device_output_.get())) {
    throw RuntimeFailureError("TensorRT refuses a batch of " + std::to_string(count));
  }
}

void Worker::work(nvinfer1::IExecutionContext& context, Key key) {
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

}  // namespace vitrify::engines
