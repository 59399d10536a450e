// What the network's kernels share: types of a result, warp sums, the tensor cores' instructions.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstddef>
#include <cstdint>

namespace vitrify::cuda {

// Starts a kernel on a stream. Starting one before the other has ended (programmatic dependent launch) was tried, and
// fetching the next product's weights into the cache beside it: between cuBLASLt's kernels either is a little slower.
template <typename... Parameters, typename... Arguments>
cudaError_t started(void (*kernel)(Parameters...), dim3 blocks, unsigned threads, std::size_t shared,
                    cudaStream_t stream, Arguments... arguments) {
  kernel<<<blocks, threads, shared, stream>>>(static_cast<Parameters>(arguments)...);
  return cudaGetLastError();
}

inline constexpr int kWarp = 32;

// e4m3's largest value; beyond it, conversion saturates.
inline constexpr float kE4m3Max = 448.0F;

__device__ inline unsigned packed_half(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

__device__ inline unsigned packed_e4m3(float a, float b, float c, float d) {
  const unsigned low = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
  const unsigned high = __nv_cvt_float2_to_fp8x2(make_float2(c, d), __NV_SATFINITE, __NV_E4M3);
  return low | high << 16;
}

__device__ inline float2 floats(unsigned halves) { return __half22float2(*reinterpret_cast<const __half2*>(&halves)); }

// Eight values of a row: 16 bytes of halves, or 8 of e4m3.
__device__ inline void store_eight(__half* out, const float (&v)[8]) {
  *reinterpret_cast<uint4*>(out) =
      make_uint4(packed_half(v[0], v[1]), packed_half(v[2], v[3]), packed_half(v[4], v[5]), packed_half(v[6], v[7]));
}
__device__ inline void store_eight(__nv_fp8_e4m3* out, const float (&v)[8]) {
  *reinterpret_cast<uint2*>(out) = make_uint2(packed_e4m3(v[0], v[1], v[2], v[3]), packed_e4m3(v[4], v[5], v[6], v[7]));
}

__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(~0U, value, step);
  }
  return value;
}

__device__ inline float warp_max(float value) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    value = fmaxf(value, __shfl_xor_sync(~0U, value, step));
  }
  return value;
}

__device__ inline void copy_async(void* shared, const void* global) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Four 8 x 8 matrices of halves, a row's address from each lane.
__device__ inline void load_matrices(unsigned (&m)[4], const void* shared) {
  const auto from = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(from)
               : "memory");
}
__device__ inline void load_matrices_transposed(unsigned (&m)[4], const void* shared) {
  const auto from = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(from)
               : "memory");
}

// c += a b with a of 16 x 16, b of 16 x 8 halves. PTX ISA, "Matrix Fragments for mma.m16n8k16", has who holds what:
// tensor_fragments.hpp says it in C++.
__device__ inline void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace vitrify::cuda
