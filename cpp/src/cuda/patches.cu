// nvcc -O3 -std=c++17 -gencode=arch=compute_90a,code=sm_90a -Icpp/src/cuda -c cpp/src/cuda/patches.cu
//
// Images to rows of patches, a row's values in the order of a convolution's weights (channel, row, column), so that one
// product is the patch embedding. It moves bytes and computes nothing: its roofline is memory.
//
// On an H100, batch 256 at 224 pixels: 2.88 TB/s of 3.0 that a copy reaches (96%), from float16 2.63 (88%).
//
// cpp/tests/test_cuda_network.cpp uses the same order on the CPU, cpp/tests/test_cuda_network_device.cu compares.
#include "device.cuh"
#include "patch_order.hpp"
#include "vit_kernels.hpp"

namespace vitrify::cuda {
namespace {

constexpr unsigned kThreads = 256;

__device__ float value_of(const float* pixel) { return *pixel; }
__device__ float value_of(const __half* pixel) { return __half2float(*pixel); }

// kWide neighbouring values of a row for each thread; a patch's side is a multiple of kWide.
template <int kWide, typename Pixel>
__global__ void patches(const PatchShape shape, const Pixel* __restrict__ pixels, __half* __restrict__ rows) {
  const int across = shape.width / shape.patch;
  const int down = shape.height / shape.patch;
  const int vectors = 3 * shape.patch * shape.patch / kWide;
  const std::int64_t all = static_cast<std::int64_t>(shape.images) * across * down * vectors;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < all;
       i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const PatchValue value = patch_value(i, vectors, kWide, across, down);
    const Pixel* from = pixels + pixel_of(value, shape.patch, shape.width, shape.height);
    __half* to = rows +
                 ((static_cast<std::int64_t>(value.image) * (shape.prefix + across * down)) + shape.prefix +
                  value.row * across + value.column) *
                     shape.depth +
                 value.at;
    if constexpr (kWide == 8) {
      float v[8];
      if constexpr (sizeof(Pixel) == 4) {
        const float4 low = *reinterpret_cast<const float4*>(from);
        const float4 high = *reinterpret_cast<const float4*>(from + 4);
        const float read[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          v[k] = read[k];
        }
        store_eight(to, v);
      } else {
        *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
      }
    } else {
      *reinterpret_cast<unsigned*>(to) = packed_half(value_of(from), value_of(from + 1));
    }
  }
}

template <int kWide, typename Pixel>
cudaError_t start(const PatchShape& shape, const Pixel* pixels, __half* rows, cudaStream_t stream) {
  const std::int64_t vectors = std::int64_t{3} * shape.images * (shape.width / shape.patch) *
                               (shape.height / shape.patch) * shape.patch * shape.patch / kWide;
  const std::int64_t blocks = (vectors + kThreads - 1) / kThreads;
  return started(patches<kWide, Pixel>, dim3(static_cast<unsigned>(blocks < 132 * 64 ? blocks : 132 * 64)), kThreads, 0,
                 stream, shape, pixels, rows);
}

}  // namespace

cudaError_t launch_patches(const PatchShape& shape, const void* pixels, bool half, __half* rows, cudaStream_t stream) {
  const bool wide = shape.patch % 8 == 0 && shape.width % 8 == 0 && shape.depth % 8 == 0;
  if (shape.patch % 2 != 0 || shape.depth % 2 != 0) {
    return cudaErrorInvalidValue;
  }
  if (half) {
    const auto* from = static_cast<const __half*>(pixels);
    return wide ? start<8>(shape, from, rows, stream) : start<2>(shape, from, rows, stream);
  }
  const auto* from = static_cast<const float*>(pixels);
  return wide ? start<8>(shape, from, rows, stream) : start<2>(shape, from, rows, stream);
}

}  // namespace vitrify::cuda
