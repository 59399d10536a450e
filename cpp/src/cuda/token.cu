// nvcc -O3 -std=c++17 -gencode=arch=compute_90a,code=sm_90a -Icpp/src/cuda -c cpp/src/cuda/token.cu
//
// What the last block and the head do with one token of each image, or with the mean of many.
//
// On an H100, one token among 197, batch 256: 2.55 TB/s of 3.0 that a copy reaches (85%).
//
// cpp/tests/test_cuda_network_device.cu compares the GPU with float64.
#include <cmath>

#include "device.cuh"
#include "vit_kernels.hpp"

namespace vitrify::cuda {
namespace {

constexpr int kTokenThreads = 256;
constexpr int kTokenWarps = kTokenThreads / kWarp;

// A block takes one head of one image: a thread a key for the scores, then a warp an eighth of the keys, a lane a
// pair of columns, for the weighted sum.
__global__ void __launch_bounds__(kTokenThreads)
    token_attention(const __half* __restrict__ q, const __half* __restrict__ kv, __half* __restrict__ out, int tokens,
                    int heads, int head) {
  extern __shared__ float scores[];  // [tokens], then [kTokenWarps][head]
  __shared__ float partial[kTokenWarps];
  __shared__ __align__(16) __half query[128];
  float* sums = scores + tokens;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const int warp = thread / kWarp;
  const std::int64_t width = static_cast<std::int64_t>(heads) * head;
  const __half* keys = kv + static_cast<std::int64_t>(blockIdx.y) * tokens * 2 * width + blockIdx.x * head;
  if (thread < head) {
    query[thread] = q[blockIdx.y * width + blockIdx.x * head + thread];
  }
  __syncthreads();
  float largest = -INFINITY;
  for (int key = thread; key < tokens; key += kTokenThreads) {
    const auto* row = reinterpret_cast<const uint4*>(keys + key * 2 * width);
    float score = 0;
    for (int i = 0; i < head / 8; ++i) {
      const uint4 k = row[i];
      const uint4 a = reinterpret_cast<const uint4*>(query)[i];
      const unsigned k_words[4] = {k.x, k.y, k.z, k.w};
      const unsigned q_words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        const float2 one = floats(k_words[w]);
        const float2 two = floats(q_words[w]);
        score += one.x * two.x + one.y * two.y;
      }
    }
    scores[key] = score;
    largest = fmaxf(largest, score);
  }
  largest = warp_max(largest);
  if (lane == 0) {
    partial[warp] = largest;
  }
  __syncthreads();
  for (int w = 0; w < kTokenWarps; ++w) {
    largest = fmaxf(largest, partial[w]);
  }
  __syncthreads();
  float total = 0;
  for (int key = thread; key < tokens; key += kTokenThreads) {
    const float p = power_of_two(scores[key] - largest);
    scores[key] = p;
    total += p;
  }
  total = warp_sum(total);
  if (lane == 0) {
    partial[warp] = total;
  }
  __syncthreads();
  total = 0;
  for (int w = 0; w < kTokenWarps; ++w) {
    total += partial[w];
  }
  const __half* values = keys + width;
  for (int pair = lane; pair < head / 2; pair += kWarp) {
    float a = 0;
    float b = 0;
#pragma unroll 8
    for (int key = warp; key < tokens; key += kTokenWarps) {
      const float2 v = floats(*reinterpret_cast<const unsigned*>(values + key * 2 * width + pair * 2));
      a += scores[key] * v.x;
      b += scores[key] * v.y;
    }
    sums[warp * head + pair * 2] = a;
    sums[warp * head + pair * 2 + 1] = b;
  }
  __syncthreads();
  if (thread < head) {
    float sum = 0;
    for (int w = 0; w < kTokenWarps; ++w) {
      sum += sums[w * head + thread];
    }
    out[blockIdx.y * width + blockIdx.x * head + thread] = __float2half(sum / total);
  }
}

// A thread takes a pair of columns of one image.
__global__ void mean(const __half* __restrict__ x, __half* __restrict__ out, int tokens, int first, int width) {
  const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * 2;
  if (at >= width) {
    return;
  }
  float a = 0;
  float b = 0;
  for (int token = first; token < tokens; ++token) {
    const float2 v = floats(
        *reinterpret_cast<const unsigned*>(x + (static_cast<std::int64_t>(blockIdx.y) * tokens + token) * width + at));
    a += v.x;
    b += v.y;
  }
  const float share = 1.0F / static_cast<float>(tokens - first);
  *reinterpret_cast<unsigned*>(out + static_cast<std::int64_t>(blockIdx.y) * width + at) =
      packed_half(a * share, b * share);
}

template <typename Out>
__global__ void convert(const float* __restrict__ from, std::int64_t count, float scale, Out* __restrict__ to) {
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<std::int64_t>(gridDim.x) * blockDim.x) {
    to[i] = Out(from[i] * scale);  // saturating in e4m3
  }
}

__global__ void magnitude(const __half* __restrict__ x, std::int64_t count, float* most) {
  float mine = 0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<std::int64_t>(gridDim.x) * blockDim.x) {
    mine = fmaxf(mine, fabsf(__half2float(x[i])));
  }
  mine = warp_max(mine);
  if (threadIdx.x % kWarp == 0) {
    atomicMax(reinterpret_cast<int*>(most), __float_as_int(mine));  // floats above zero are in the order of their bits
  }
}

}  // namespace

cudaError_t launch_token_attention(const AttentionShape& shape, const __half* q, const __half* kv, __half* out,
                                   cudaStream_t stream) {
  const std::size_t bytes = sizeof(float) * static_cast<std::size_t>(shape.tokens + kTokenWarps * shape.head);
  if (shape.head > 128 || shape.head % 8 != 0 || bytes > 48 << 10) {
    return cudaErrorInvalidValue;
  }
  return started(token_attention, dim3(shape.heads, shape.images), kTokenThreads, bytes, stream, q, kv, out,
                 shape.tokens, shape.heads, shape.head);
}

cudaError_t launch_mean(const __half* x, __half* out, int images, int tokens, int first, int width,
                        cudaStream_t stream) {
  return started(mean, dim3((width / 2 + 127) / 128, images), 128, 0, stream, x, out, tokens, first, width);
}

cudaError_t launch_convert(const float* from, std::int64_t count, float scale, void* to, bool e4m3,
                           cudaStream_t stream) {
  if (e4m3) {
    convert<<<1056, 256, 0, stream>>>(from, count, scale, static_cast<__nv_fp8_e4m3*>(to));
  } else {
    convert<<<1056, 256, 0, stream>>>(from, count, scale, static_cast<__half*>(to));
  }
  return cudaGetLastError();
}

cudaError_t launch_magnitude(const __half* x, std::int64_t count, float* most, cudaStream_t stream) {
  return started(magnitude, dim3(264), 256, 0, stream, x, count, most);
}

}  // namespace vitrify::cuda
