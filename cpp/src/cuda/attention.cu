// nvcc -O3 -std=c++17 -gencode=arch=compute_90a,code=sm_90a -Icpp/src/cuda -c cpp/src/cuda/attention.cu
//
// softmax(Q K^T) V for every image and head, of fused rows [B, tokens, 3, heads, d]. Q's weights carry the scale and
// log2(e), so that a probability is 2^(score - largest). Keys and values of a head lie whole in shared memory; a warp
// takes 16 or 32 queries through all of them with an online softmax, so that no score leaves its registers.
//
// On an H100, 197 tokens, 12 heads, batch 256: 232 us, 1.33 TB/s of 3.0 that a copy reaches (44%). Shared memory and
// the tensor cores' older instructions bound it about equally; attention_warpgroup.cu avoids both where it can.
//
// cpp/tests/test_cuda_network_device.cu compares the GPU with float64; cpp/tests/vit_reference.hpp is the CPU's.
#include <cmath>

#include "device.cuh"
#include "vit_kernels.hpp"

namespace vitrify::cuda {
namespace {

// A row of keys or values in shared memory: 16 bytes more than it needs put eight rows on different banks.
template <int kHead>
inline constexpr int kPitch = kHead + 8;

template <typename Out>
struct Staged;  // a tile of results on its way out: 16 rows
template <>
struct Staged<__half> {
  static constexpr int pad = 8;
  static __device__ void put(__half* at, float a, float b) { *reinterpret_cast<unsigned*>(at) = packed_half(a, b); }
};
template <>
struct Staged<__nv_fp8_e4m3> {
  static constexpr int pad = 16;
  static __device__ void put(__nv_fp8_e4m3* at, float a, float b) {
    *reinterpret_cast<std::uint16_t*>(at) = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
  }
};

template <int kHead, int kTiles, int kWarps, int kChunk, int kBlocks, typename Out>
__global__ void __launch_bounds__(kWarps* kWarp, kBlocks)
    attention(const __half* __restrict__ qkv, Out* __restrict__ out, const float* __restrict__ scale, int tokens,
              int heads) {
  constexpr int pitch = kPitch<kHead>;
  constexpr int steps = kHead / 16;
  extern __shared__ __align__(16) unsigned char shared[];
  const int padded = (tokens + 15) / 16 * 16;
  auto* keys = reinterpret_cast<__half*>(shared);
  __half* values = keys + padded * pitch;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  auto* staged = reinterpret_cast<Out*>(values + padded * pitch) + warp * 16 * (kHead + Staged<Out>::pad);
  const std::int64_t row_stride = std::int64_t{3} * heads * kHead;
  const __half* base = qkv + static_cast<std::int64_t>(blockIdx.y) * tokens * row_stride + blockIdx.x * kHead;

  constexpr int vectors = kHead / 8;
  for (int i = static_cast<int>(threadIdx.x); i < padded * vectors; i += kWarps * kWarp) {
    const int row = i / vectors;
    const int at = row * pitch + i % vectors * 8;
    if (row < tokens) {
      const __half* from = base + row * row_stride + heads * kHead + i % vectors * 8;
      copy_async(keys + at, from);
      copy_async(values + at, from + heads * kHead);
    } else {
      *reinterpret_cast<uint4*>(keys + at) = make_uint4(0, 0, 0, 0);
      *reinterpret_cast<uint4*>(values + at) = make_uint4(0, 0, 0, 0);
    }
  }

  const int group = lane / 4;
  const int column = lane % 4 * 2;
  const float factor = scale != nullptr ? *scale : 1.0F;
  const int tiles = padded / 16;
  bool waited = false;
  for (int tile = (static_cast<int>(blockIdx.z) * kWarps + warp) * kTiles;; tile += kTiles * kWarps * gridDim.z) {
    const bool any = tile < tiles;
    unsigned q[kTiles][steps][4];
    if (any) {
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
#pragma unroll
        for (int s = 0; s < steps; ++s) {
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            const int row = (tile + t) * 16 + group + r % 2 * 8;
            const int at = s * 16 + column + r / 2 * 8;
            q[t][s][r] = row < tokens ? *reinterpret_cast<const unsigned*>(base + row * row_stride + at) : 0U;
          }
        }
      }
    }
    if (!waited) {
      wait_for_copies();
      __syncthreads();
      waited = true;
    }
    if (!any) {
      break;
    }
    float o[kTiles][kHead / 8][4];
    float largest[kTiles][2];
    float sum[kTiles][2];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int n = 0; n < kHead / 8; ++n) {
        o[t][n][0] = o[t][n][1] = o[t][n][2] = o[t][n][3] = 0;
      }
      largest[t][0] = largest[t][1] = -INFINITY;
      sum[t][0] = sum[t][1] = 0;
    }
    for (int chunk = 0; chunk < padded; chunk += kChunk) {
      float s[kTiles][kChunk / 8][4];
#pragma unroll
      for (int k = 0; k < kChunk / 16; ++k) {
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            s[t][2 * k][r] = s[t][2 * k + 1][r] = 0;
          }
        }
        if (chunk + k * 16 < padded) {
          const __half* row = keys + (chunk + k * 16 + lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8;
#pragma unroll
          for (int d = 0; d < steps; ++d) {
            unsigned b[4];
            load_matrices(b, row + d * 16);
#pragma unroll
            for (int t = 0; t < kTiles; ++t) {
              multiply(s[t][2 * k], q[t][d], b[0], b[1]);
              multiply(s[t][2 * k + 1], q[t][d], b[2], b[3]);
            }
          }
        }
        if (chunk + k * 16 + 16 > tokens) {
#pragma unroll
          for (int t = 0; t < kTiles; ++t) {
#pragma unroll
            for (int n = 0; n < 2; ++n) {
#pragma unroll
              for (int r = 0; r < 4; ++r) {
                if (chunk + k * 16 + n * 8 + column + r % 2 >= tokens) {
                  s[t][2 * k + n][r] = -INFINITY;
                }
              }
            }
          }
        }
      }
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float most = largest[t][h];
#pragma unroll
          for (int n = 0; n < kChunk / 8; ++n) {
            most = fmaxf(most, fmaxf(s[t][n][2 * h], s[t][n][2 * h + 1]));
          }
          most = fmaxf(most, __shfl_xor_sync(~0U, most, 1));
          most = fmaxf(most, __shfl_xor_sync(~0U, most, 2));
          const float keep = power_of_two(largest[t][h] - most);
          largest[t][h] = most;
          float mine = 0;
#pragma unroll
          for (int n = 0; n < kChunk / 8; ++n) {
            s[t][n][2 * h] = power_of_two(s[t][n][2 * h] - most);
            s[t][n][2 * h + 1] = power_of_two(s[t][n][2 * h + 1] - most);
            mine += s[t][n][2 * h] + s[t][n][2 * h + 1];
          }
          sum[t][h] = sum[t][h] * keep + mine;
          if (chunk > 0) {
#pragma unroll
            for (int n = 0; n < kHead / 8; ++n) {
              o[t][n][2 * h] *= keep;
              o[t][n][2 * h + 1] *= keep;
            }
          }
        }
      }
#pragma unroll
      for (int k = 0; k < kChunk / 16; ++k) {
        if (chunk + k * 16 < padded) {
          unsigned p[kTiles][4];
#pragma unroll
          for (int t = 0; t < kTiles; ++t) {
            p[t][0] = packed_half(s[t][2 * k][0], s[t][2 * k][1]);
            p[t][1] = packed_half(s[t][2 * k][2], s[t][2 * k][3]);
            p[t][2] = packed_half(s[t][2 * k + 1][0], s[t][2 * k + 1][1]);
            p[t][3] = packed_half(s[t][2 * k + 1][2], s[t][2 * k + 1][3]);
          }
          const __half* row = values + (chunk + k * 16 + lane % 16) * pitch + lane / 16 * 8;
#pragma unroll
          for (int d = 0; d < steps; ++d) {
            unsigned b[4];
            load_matrices_transposed(b, row + d * 16);
#pragma unroll
            for (int t = 0; t < kTiles; ++t) {
              multiply(o[t][2 * d], p[t], b[0], b[1]);
              multiply(o[t][2 * d + 1], p[t], b[2], b[3]);
            }
          }
        }
      }
    }
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      if (tile + t >= tiles) {
        break;
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float total = sum[t][h];
        total += __shfl_xor_sync(~0U, total, 1);
        total += __shfl_xor_sync(~0U, total, 2);
        const float inverse = factor / total;
#pragma unroll
        for (int n = 0; n < kHead / 8; ++n) {
          Staged<Out>::put(staged + (group + h * 8) * (kHead + Staged<Out>::pad) + n * 8 + column,
                           o[t][n][2 * h] * inverse, o[t][n][2 * h + 1] * inverse);
        }
      }
      __syncwarp();
      constexpr int per = 16 / static_cast<int>(sizeof(Out));  // values in 16 bytes
#pragma unroll
      for (int i = lane; i < 16 * (kHead / per); i += kWarp) {
        const int row = i / (kHead / per);
        const int at = i % (kHead / per) * per;
        const int token = (tile + t) * 16 + row;
        if (token < tokens) {
          *reinterpret_cast<uint4*>(out + (static_cast<std::int64_t>(blockIdx.y) * tokens + token) * heads * kHead +
                                    blockIdx.x * kHead + at) =
              *reinterpret_cast<const uint4*>(staged + row * (kHead + Staged<Out>::pad) + at);
        }
      }
      __syncwarp();
    }
  }
}

template <int kHead, typename Out>
std::size_t shared_bytes(int tokens, int warps) {
  const auto padded = static_cast<std::size_t>((tokens + 15) / 16 * 16);
  return 2 * padded * kPitch<kHead> * sizeof(__half) +
         static_cast<std::size_t>(warps) * 16 * (kHead + Staged<Out>::pad) * sizeof(Out);
}

template <int kHead, int kTiles, int kWarps, int kChunk, int kBlocks, typename Out>
cudaError_t start(const AttentionShape& shape, const __half* qkv, Out* out, const float* scale, int splits,
                  cudaStream_t stream) {
  const std::size_t bytes = shared_bytes<kHead, Out>(shape.tokens, kWarps);
  const auto kernel = attention<kHead, kTiles, kWarps, kChunk, kBlocks, Out>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (status != cudaSuccess) {
    return status;
  }
  return started(kernel, dim3(shape.heads, shape.images, splits), kWarps * kWarp, bytes, stream, qkv, out, scale,
                 shape.tokens, shape.heads);
}

// Two of attention_warpgroup.cu's chunks: at 257 tokens it was still the faster way, by 3 to 8%.
constexpr int kWarpgroupTokens = 416;

bool on_hopper() {
  static const bool hopper = [] {
    int device = 0;
    int major = 0;
    int minor = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
           cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess && major == 9 &&
           minor == 0;
  }();
  return hopper;
}

template <int kHead, typename Out>
cudaError_t by_size(const AttentionShape& shape, const __half* qkv, Out* out, const float* scale, Attention way,
                    cudaStream_t stream) {
  if (way == Attention::spread) {  // a block a pair of tiles
    return start<kHead, 1, 2, 64, 2>(shape, qkv, out, scale, ((shape.tokens + 15) / 16 + 1) / 2, stream);
  }
  return start<kHead, 1, 7, 64, 2>(shape, qkv, out, scale, 1, stream);
}

template <typename Out>
cudaError_t by_head(const AttentionShape& shape, const __half* qkv, Out* out, const float* scale, Attention way,
                    cudaStream_t stream) {
  switch (shape.head) {
    case 32:
      return by_size<32>(shape, qkv, out, scale, way, stream);
    case 48:
      return by_size<48>(shape, qkv, out, scale, way, stream);
    case 64:
      return by_size<64>(shape, qkv, out, scale, way, stream);
    case 80:
      return by_size<80>(shape, qkv, out, scale, way, stream);
    case 96:
      return by_size<96>(shape, qkv, out, scale, way, stream);
    case 128:
      return by_size<128>(shape, qkv, out, scale, way, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

bool attention_fits(int head, int tokens) {
  const bool known = head == 32 || head == 48 || head == 64 || head == 80 || head == 96 || head == 128;
  const auto padded = static_cast<std::size_t>((tokens + 15) / 16 * 16);
  // 227 KiB less what seven warps stage.
  return known && 2 * padded * static_cast<std::size_t>(head + 8) * 2 + std::size_t{7} * 16 * (head + 16) * 2 <= 232448;
}

bool attention_by_warpgroups(const AttentionShape& shape) {
  return shape.head == 64 && shape.tokens <= kWarpgroupTokens && on_hopper();
}

cudaError_t launch_attention(const AttentionShape& shape, const __half* qkv, void* out, const float* scale, bool e4m3,
                             Attention way, cudaStream_t stream) {
  return e4m3 ? by_head(shape, qkv, static_cast<__nv_fp8_e4m3*>(out), scale, way, stream)
              : by_head(shape, qkv, static_cast<__half*>(out), scale, way, stream);
}

}  // namespace vitrify::cuda
