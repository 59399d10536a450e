// Starts the preprocessing of a batch on a stream.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "preprocess.hpp"

namespace vitrify::cuda {

// A plan and its pixels, in the GPU's memory.
struct Batch {
  const Job* jobs;
  const std::int32_t* numbers;
  const std::uint8_t* pixels;
  const float* table;  // [3][256]
  unsigned count;      // images
};

// Writes [count, 3, crop.height, crop.width] in float32, or in float16 where `half` is set.
cudaError_t launch(const Batch& batch, const Preprocess& spec, bool half, void* out, cudaStream_t stream);

}  // namespace vitrify::cuda
