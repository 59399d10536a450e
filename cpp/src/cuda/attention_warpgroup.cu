// nvcc -O3 -std=c++17 -gencode=arch=compute_90a,code=sm_90a -Icpp/src/cuda -c cpp/src/cuda/attention_warpgroup.cu
//
// attention.cu's computation for heads of 64 with Hopper's warpgroup products: the tensor cores read keys and values
// from shared memory themselves. A block is one group of four warps with one head of one image; three blocks share a
// multiprocessor, so that one's exponentials run beside another's products. 208 keys at a time, all of a ViT's 197 at
// 224 pixels and patches of 16, have their scores in registers.
//
// On an H100, 197 tokens, 12 heads, batch 256: 151 us, 2.05 TB/s of 3.0 that a copy reaches (68%), 202 TFLOP/s of
// useful products (26% of a large product's 790); 146 us into e4m3. At batch 64 46 us, at 1 and spread 4.2 us.
//
// cpp/tests/test_cuda_network_device.cu compares the GPU with float64.
#include <cmath>

#include "device.cuh"
#include "vit_kernels.hpp"
#include "warpgroup.cuh"

namespace vitrify::cuda {
namespace {

constexpr int kHead = 64;
constexpr int kThreads = 128;
constexpr int kHalf = 104;         // keys of one product
constexpr int kChunk = 2 * kHalf;  // keys whose scores are held at once
constexpr int kRowBytes = 2 * kHead;

template <typename Out>
inline constexpr int kPad = sizeof(Out) == 2 ? 8 : 16;

[[maybe_unused]] __device__ void put(__half* at, float a, float b) {
  *reinterpret_cast<unsigned*>(at) = packed_half(a, b);
}
[[maybe_unused]] __device__ void put(__nv_fp8_e4m3* at, float a, float b) {
  *reinterpret_cast<std::uint16_t*>(at) = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
}

// Whole chunks, so that no product depends on a branch.
__host__ __device__ constexpr int rows_in_memory(bool once, int tokens) {
  return once ? kChunk : (tokens + kChunk - 1) / kChunk * kChunk;
}

template <bool kOnce, typename Out>
__global__ void __launch_bounds__(kThreads, kOnce ? 3 : 2)
    attention_warpgroup(const __half* __restrict__ qkv, Out* __restrict__ out, const float* __restrict__ scale,
                        int tokens, int heads) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  constexpr int kStages = kChunk / 16;
  extern __shared__ __align__(1024) unsigned char shared[];
  const int padded = rows_in_memory(kOnce, tokens);
  unsigned char* keys = shared;
  unsigned char* values = shared + padded * kRowBytes;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const int warp = thread / kWarp;
  auto* staged = reinterpret_cast<Out*>(values + padded * kRowBytes) + warp * 16 * (kHead + kPad<Out>);
  const int row_stride = 3 * heads * kHead;
  const __half* base = qkv + static_cast<std::int64_t>(blockIdx.y) * tokens * row_stride + blockIdx.x * kHead;

  const int piece = thread % 8;
  for (int row = thread / 8; row < padded; row += kThreads / 8) {
    const int at = row * kRowBytes + (piece ^ row % 8) * 16;
    if (row < tokens) {
      const __half* from = base + row * row_stride + heads * kHead + piece * 8;
      copy_async(keys + at, from);
      copy_async(values + at, from + heads * kHead);
    } else {
      *reinterpret_cast<uint4*>(keys + at) = make_uint4(0, 0, 0, 0);
      *reinterpret_cast<uint4*>(values + at) = make_uint4(0, 0, 0, 0);
    }
  }

  const int group = lane / 4;
  const int column = lane % 4 * 2;
  const int tiles = (tokens + 63) / 64;
  unsigned q[kHead / 16][4];
  const auto load_queries = [&](int tile) {
    const int first = tile * 64 + warp * 16 + group;
    const __half* from = base + first * row_stride + column;
#pragma unroll
    for (int s = 0; s < kHead / 16; ++s) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        q[s][r] = first + r % 2 * 8 < tokens
                      ? *reinterpret_cast<const unsigned*>(from + r % 2 * 8 * row_stride + s * 16 + r / 2 * 8)
                      : 0U;
      }
    }
  };
  int tile = static_cast<int>(blockIdx.z);
  load_queries(tile);
  const float factor = scale != nullptr ? *scale : 1.0F;
  wait_for_copies();
  show_to_tensor_cores();
  __syncthreads();

  const std::uint64_t key_rows = swizzled_rows(keys);
  const std::uint64_t value_rows = swizzled_rows(values);
  constexpr std::uint64_t row_step = kRowBytes >> 4;
  for (; tile < tiles; tile += static_cast<int>(gridDim.z)) {
    if (tile != static_cast<int>(blockIdx.z)) {
      load_queries(tile);
    }
    float o[kHead / 2];
    float largest[2] = {-INFINITY, -INFINITY};
    float sum[2] = {0, 0};
    const bool mine = tile * 64 + warp * 16 < tokens;  // the warp has queries
    for (int chunk = 0; chunk < (kOnce ? 1 : padded); chunk += kChunk) {
      float s[2][kHalf / 2];
      pin(q);
      pin(s[0]);
      pin(s[1]);
      group_fence();
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int k = 0; k < kHead / 16; ++k) {
          multiply_104(s[half], q[k], key_rows + static_cast<std::uint64_t>(chunk + half * kHalf) * row_step + k * 2,
                       k > 0);
        }
      }
      group_commit();
      group_wait();
      pin(s[0]);
      pin(s[1]);
      unsigned p[kStages][4];
      if (mine) {
        if (kOnce || chunk + kChunk > tokens) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int i = 0; i < kHalf / 2; ++i) {
              // Keys that may be missing from a full chunk on are the last ones alone.
              if (chunk + half * kHalf + i / 4 * 8 + column + i % 2 >= tokens) {
                s[half][i] = -INFINITY;
              }
            }
          }
        }
        float keep[2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float most = largest[h];
#pragma unroll
          for (int i = 2 * h; i < kHalf / 2; i += 4) {
            most = fmaxf(most, fmaxf(fmaxf(s[0][i], s[0][i + 1]), fmaxf(s[1][i], s[1][i + 1])));
          }
          most = fmaxf(most, __shfl_xor_sync(~0U, most, 1));
          most = fmaxf(most, __shfl_xor_sync(~0U, most, 2));
          keep[h] = power_of_two(largest[h] - most);
          largest[h] = most;
          float more = 0;
#pragma unroll
          for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int i = 2 * h; i < kHalf / 2; i += 4) {
              s[half][i] = power_of_two(s[half][i] - most);
              s[half][i + 1] = power_of_two(s[half][i + 1] - most);
              more += s[half][i] + s[half][i + 1];
            }
          }
          sum[h] = sum[h] * keep[h] + more;
        }
        if (!kOnce && chunk > 0) {
#pragma unroll
          for (int i = 0; i < kHead / 2; ++i) {
            o[i] *= keep[i / 2 % 2];
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kStages; ++k) {
        // Eight keys' scores are four registers of a thread: 13 such in each half.
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int eight = 2 * k + e;
          const float* from = &s[eight / 13][eight % 13 * 4];
          p[k][2 * e] = packed_half(from[0], from[1]);
          p[k][2 * e + 1] = packed_half(from[2], from[3]);
        }
      }
      pin(p);
      pin(o);
      group_fence();
#pragma unroll
      for (int k = 0; k < kStages; ++k) {
        multiply_64_transposed(o, p[k], value_rows + static_cast<std::uint64_t>(chunk + k * 16) * row_step,
                               k > 0 || chunk > 0);
      }
      group_commit();
      group_wait();
      pin(o);
    }
    if (mine) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float total = sum[h];
        total += __shfl_xor_sync(~0U, total, 1);
        total += __shfl_xor_sync(~0U, total, 2);
        const float inverse = factor / total;
#pragma unroll
        for (int n = 0; n < kHead / 8; ++n) {
          put(staged + (group + h * 8) * (kHead + kPad<Out>)+n * 8 + column, o[n * 4 + 2 * h] * inverse,
              o[n * 4 + 2 * h + 1] * inverse);
        }
      }
      __syncwarp();
      constexpr int per = 16 / static_cast<int>(sizeof(Out));  // values in 16 bytes
#pragma unroll
      for (int i = lane; i < 16 * (kHead / per); i += kWarp) {
        const int row = i / (kHead / per);
        const int at = i % (kHead / per) * per;
        const int token = tile * 64 + warp * 16 + row;
        if (token < tokens) {
          *reinterpret_cast<uint4*>(out + (static_cast<std::int64_t>(blockIdx.y) * tokens + token) * heads * kHead +
                                    blockIdx.x * kHead + at) =
              *reinterpret_cast<const uint4*>(staged + row * (kHead + kPad<Out>)+at);
        }
      }
      __syncwarp();
    }
  }
#endif
}

template <bool kOnce, typename Out>
cudaError_t start(const AttentionShape& shape, const __half* qkv, Out* out, const float* scale, int splits,
                  cudaStream_t stream) {
  const auto padded = static_cast<std::size_t>(rows_in_memory(kOnce, shape.tokens));
  const std::size_t bytes = 2 * padded * kRowBytes + 4 * 16 * (kHead + kPad<Out>)*sizeof(Out);
  const auto kernel = attention_warpgroup<kOnce, Out>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  return status != cudaSuccess ? status
                               : started(kernel, dim3(shape.heads, shape.images, splits), kThreads, bytes, stream, qkv,
                                         out, scale, shape.tokens, shape.heads);
}

}  // namespace

cudaError_t launch_attention_warpgroup(const AttentionShape& shape, const __half* qkv, void* out, const float* scale,
                                       bool e4m3, Attention way, cudaStream_t stream) {
  if (shape.head != kHead) {
    return cudaErrorInvalidValue;
  }
  const int splits = way == Attention::spread ? (shape.tokens + 63) / 64 : 1;
  const bool once = shape.tokens <= kChunk;
  if (e4m3) {
    auto* to = static_cast<__nv_fp8_e4m3*>(out);
    return once ? start<true>(shape, qkv, to, scale, splits, stream)
                : start<false>(shape, qkv, to, scale, splits, stream);
  }
  auto* to = static_cast<__half*>(out);
  return once ? start<true>(shape, qkv, to, scale, splits, stream)
              : start<false>(shape, qkv, to, scale, splits, stream);
}

}  // namespace vitrify::cuda
