// nvcc -O3 -std=c++17 -arch=native -Icpp/include -Icpp/src/cuda -Icpp/src/pixels -c cpp/src/cuda/preprocess.cu
//
// The CPU reference of this kernel is the pixel core itself; cpp/tests/test_cuda.cpp runs the same tiles on the CPU, and
// cpp/tests/test_cuda_device.cu compares what the GPU made with both. NVRTC compiles this file too, for Python.
#ifndef __CUDACC_RTC__
#include "launch.hpp"
#endif

#include "tile.hpp"

namespace vitrify::cuda {
namespace {

// The bits of an IEEE half.
struct Half {
  std::uint16_t bits;
};

__device__ void put(float* out, float value) { *out = value; }
__device__ void put(Half* out, float value) {
  // __float2half_rn's own instruction: its header is not where NVRTC runs without the toolkit.
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out->bits) : "f"(value));
}

// A block makes a tile of one image's crop, a thread an output pixel: kTileWidth x kTileHeight threads. The first pass
// goes to shared memory, kChunk lines at a time, the second from there into registers.
template <typename Value>
__device__ void preprocess(const Job* jobs, const std::int32_t* numbers, const std::uint8_t* pixels, const float* table,
                           std::uint32_t fill, int width, int height, Value* out) {
  __shared__ std::uint8_t middle[kChunk * kTileWidth * 3];
  const Job job = jobs[blockIdx.z];
  const bool along_x = !job.vertical_first;  // the first pass
  const Axis& one = along_x ? job.x : job.y;
  const Axis& two = along_x ? job.y : job.x;
  // Where this tile lies among the outputs that are computed, along either axis.
  const int x0 = blockIdx.x * kTileWidth - job.x.to;
  const int y0 = blockIdx.y * kTileHeight - job.y.to;
  const int x = x0 + static_cast<int>(threadIdx.x);
  const int y = y0 + static_cast<int>(threadIdx.y);
  const bool computed = x >= 0 && x < job.x.outputs && y >= 0 && y < job.y.outputs;
  const int x_begin = max(x0, 0);
  const int x_end = min(x0 + kTileWidth, job.x.outputs);
  const int y_begin = max(y0, 0);
  const int y_end = min(y0 + kTileHeight, job.y.outputs);
  Sums sums;
  if (x_begin < x_end && y_begin < y_end) {  // the same for the whole block
    const int one_begin = along_x ? x_begin : y_begin;
    const int one_count = (along_x ? x_end : y_end) - one_begin;
    const Lines lines = lines_of(two, numbers, along_x ? y_begin : x_begin, along_x ? y_end : x_end);
    const int thread = static_cast<int>(threadIdx.y) * kTileWidth + static_cast<int>(threadIdx.x);
    for (int chunk = lines.begin; chunk < lines.end; chunk += kChunk) {
      const int chunk_end = min(chunk + kChunk, lines.end);
      // Neighbouring threads take neighbouring outputs of a line along x, whose pixels lie beside each other; along y
      // they take neighbouring lines, for the same reason.
      const int work = (chunk_end - chunk) * one_count;
      for (int item = thread; item < work; item += kTileWidth * kTileHeight) {
        const int line = along_x ? item / one_count : item % (chunk_end - chunk);
        const int output = along_x ? item % one_count : item / (chunk_end - chunk);
        resample(line_of(job, pixels, along_x, chunk + line), one, numbers, one_begin + output,
                 middle + (line * kTileWidth + output) * 3);
      }
      __syncthreads();
      if (computed) {
        const int mine = (along_x ? x : y) - one_begin;
        accumulate(sums, two, numbers, along_x ? y : x, chunk, chunk_end, middle + mine * 3, kTileWidth * 3);
      }
      __syncthreads();
    }
  }
  const int column = blockIdx.x * kTileWidth + static_cast<int>(threadIdx.x);
  const int row = blockIdx.y * kTileHeight + static_cast<int>(threadIdx.y);
  if (column < width && row < height) {
    std::uint8_t rgb[3] = {static_cast<std::uint8_t>(fill), static_cast<std::uint8_t>(fill >> 8),
                           static_cast<std::uint8_t>(fill >> 16)};
    if (computed) {
      sums.store(rgb);
    }
    const std::size_t plane = static_cast<std::size_t>(width) * height;
    Value* pixel = out + blockIdx.z * 3 * plane + static_cast<std::size_t>(row) * width + column;
    for (int c = 0; c < 3; ++c) {
      put(pixel + c * plane, table[256 * c + rgb[c]]);
    }
  }
}

}  // namespace

// Names that Python finds in the compiled code.
extern "C" __global__ void vitrify_preprocess_float32(const Job* jobs, const std::int32_t* numbers,
                                                      const std::uint8_t* pixels, const float* table,
                                                      std::uint32_t fill, int width, int height, float* out) {
  preprocess(jobs, numbers, pixels, table, fill, width, height, out);
}

extern "C" __global__ void vitrify_preprocess_float16(const Job* jobs, const std::int32_t* numbers,
                                                      const std::uint8_t* pixels, const float* table,
                                                      std::uint32_t fill, int width, int height, std::uint16_t* out) {
  preprocess(jobs, numbers, pixels, table, fill, width, height, reinterpret_cast<Half*>(out));
}

#ifndef __CUDACC_RTC__
cudaError_t launch(const Batch& batch, const Preprocess& spec, bool half, void* out, cudaStream_t stream) {
  const int width = spec.crop.width;
  const int height = spec.crop.height;
  const dim3 threads(kTileWidth, kTileHeight);
  const dim3 blocks((width + kTileWidth - 1) / kTileWidth, (height + kTileHeight - 1) / kTileHeight, batch.count);
  const std::uint32_t fill = spec.fill[0] | spec.fill[1] << 8 | static_cast<std::uint32_t>(spec.fill[2]) << 16;
  if (half) {
    vitrify_preprocess_float16<<<blocks, threads, 0, stream>>>(batch.jobs, batch.numbers, batch.pixels, batch.table,
                                                               fill, width, height, static_cast<std::uint16_t*>(out));
  } else {
    vitrify_preprocess_float32<<<blocks, threads, 0, stream>>>(batch.jobs, batch.numbers, batch.pixels, batch.table,
                                                               fill, width, height, static_cast<float*>(out));
  }
  return cudaGetLastError();
}
#endif

}  // namespace vitrify::cuda
