// What differs between the headers of TensorRT 8.5 to 11 and TensorRT-RTX, and nowhere else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <NvInferRuntime.h>
#include <NvInferVersion.h>

namespace vitrify::engines {

#ifdef VITRIFY_TENSORRT_RTX
inline constexpr bool kRtx = true;
#else
inline constexpr bool kRtx = false;
#endif

// Each is deleted by `delete` since 8.0; `destroy` is gone in 10.
template <typename Object>
using Owned = std::unique_ptr<Object>;

inline std::string tensorrt_version() {
  return std::to_string(NV_TENSORRT_MAJOR) + "." + std::to_string(NV_TENSORRT_MINOR) + "." +
         std::to_string(NV_TENSORRT_PATCH) + "." + std::to_string(NV_TENSORRT_BUILD);
}

// Several contexts of an engine may use one optimisation profile since 10, and in TensorRT-RTX; before, each needs an
// engine of its own.
inline constexpr bool kSharesProfiles = kRtx || NV_TENSORRT_MAJOR >= 10;

inline void allow_host_code([[maybe_unused]] nvinfer1::IRuntime& runtime) {
#if NV_TENSORRT_MAJOR > 8 || NV_TENSORRT_MINOR >= 6 || defined(VITRIFY_TENSORRT_RTX)
  runtime.setEngineHostCodeAllowed(true);
#endif
}

// What one context needs beside inputs and outputs, for the largest batch of any profile.
inline std::size_t scratch_bytes(const nvinfer1::ICudaEngine& engine) {
#if NV_TENSORRT_MAJOR > 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR >= 1) || defined(VITRIFY_TENSORRT_RTX)
  return static_cast<std::size_t>(engine.getDeviceMemorySizeV2());
#else
  return engine.getDeviceMemorySize();
#endif
}

// A context on scratch memory that the caller keeps; null where the GPU's memory does not suffice.
inline Owned<nvinfer1::IExecutionContext> create_context(nvinfer1::ICudaEngine& engine, void* scratch,
                                                         [[maybe_unused]] std::size_t bytes) {
#if NV_TENSORRT_MAJOR > 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR >= 1) || defined(VITRIFY_TENSORRT_RTX)
  Owned<nvinfer1::IExecutionContext> context(
      engine.createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED));
  if (context) {
    context->setDeviceMemoryV2(scratch, static_cast<std::int64_t>(bytes));
  }
#else
  Owned<nvinfer1::IExecutionContext> context(engine.createExecutionContextWithoutDeviceMemory());
  if (context) {
    context->setDeviceMemory(scratch);
  }
#endif
  return context;
}

}  // namespace vitrify::engines
