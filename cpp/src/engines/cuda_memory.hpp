// CUDA's resources as objects that give themselves back, and its errors as exceptions.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "vitrify/error.hpp"

namespace vitrify::engines {

inline void check(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) {
    return;
  }
  const char* hint = "";
  if (status == cudaErrorMemoryAllocation) {
    hint = "use fewer streams, or build with a smaller largest batch (--profile)";
  } else if (status == cudaErrorInsufficientDriver) {
    hint = "install a newer driver";
  } else if (status == cudaErrorNoDevice) {
    hint = "this machine shows no NVIDIA GPU; nvidia-smi lists them";
  }
  throw DeviceError(what, cudaGetErrorString(status), {}, hint);
}

struct FreeDevice {
  void operator()(void* memory) const noexcept { cudaFree(memory); }
};
struct FreePinned {
  void operator()(void* memory) const noexcept { cudaFreeHost(memory); }
};
using DeviceMemory = std::unique_ptr<void, FreeDevice>;
using PinnedMemory = std::unique_ptr<void, FreePinned>;

inline DeviceMemory device_memory(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes > 0 ? bytes : 1),
        "the GPU has not enough memory for " + std::to_string(bytes) + " bytes");
  return DeviceMemory(memory);
}

// Page-locked host memory, which copies at full speed and asynchronously.
inline PinnedMemory pinned_memory(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes > 0 ? bytes : 1), "the host cannot lock " + std::to_string(bytes) + " bytes");
  return PinnedMemory(memory);
}

struct DestroyStream {
  void operator()(cudaStream_t stream) const noexcept { cudaStreamDestroy(stream); }
};
struct DestroyEvent {
  void operator()(cudaEvent_t event) const noexcept { cudaEventDestroy(event); }
};
struct DestroyGraph {
  void operator()(cudaGraph_t graph) const noexcept { cudaGraphDestroy(graph); }
};
struct DestroyExecutable {
  void operator()(cudaGraphExec_t graph) const noexcept { cudaGraphExecDestroy(graph); }
};
using Stream = std::unique_ptr<CUstream_st, DestroyStream>;
using Event = std::unique_ptr<CUevent_st, DestroyEvent>;
using Graph = std::unique_ptr<CUgraph_st, DestroyGraph>;
using ExecutableGraph = std::unique_ptr<CUgraphExec_st, DestroyExecutable>;

// A stream that does not wait for the default stream.
inline Stream create_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "CUDA makes no stream");
  return Stream(stream);
}

inline Event create_event(unsigned flags) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, flags), "CUDA makes no event");
  return Event(event);
}

// Points in a stream's work, and the time between them.
class Marks {
 public:
  void mark(std::size_t index, cudaStream_t stream) {
    while (events_.size() <= index) {
      events_.push_back(create_event(cudaEventDefault));
    }
    check(cudaEventRecord(events_[index].get(), stream), "CUDA records no event");
  }
  // Both must have passed.
  [[nodiscard]] double ms_between(std::size_t from, std::size_t to) const {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, events_[from].get(), events_[to].get()), "CUDA measures no time");
    return milliseconds;
  }

 private:
  std::vector<Event> events_;
};

// Records what `work` gives a stream as one launch.
template <typename Work>
ExecutableGraph recorded(cudaStream_t stream, Work work) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "CUDA records no graph");
  cudaGraph_t captured = nullptr;
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream, &captured);
    const Graph dropped(captured);
    throw;
  }
  check(cudaStreamEndCapture(stream, &captured), "CUDA records no graph");
  const Graph graph(captured);
  cudaGraphExec_t executable = nullptr;
  check(cudaGraphInstantiate(&executable, graph.get(), 0), "CUDA cannot prepare a graph");
  return ExecutableGraph(executable);
}

}  // namespace vitrify::engines
