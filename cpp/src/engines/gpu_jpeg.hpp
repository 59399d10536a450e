// JPEGs to pixels on the GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vitrify/image.hpp"

namespace vitrify::engines {

// A file, and where its pixels belong in the GPU's memory: [height, width, 3], rows without padding.
struct EncodedJpeg {
  const std::uint8_t* data;
  std::size_t bytes;
  Size size;
  std::uint8_t* rgb;
};

// Decodes batches, one after the other. Not for several threads at once.
class GpuJpegDecoder {
 public:
  GpuJpegDecoder() = default;
  virtual ~GpuJpegDecoder() = default;
  GpuJpegDecoder(const GpuJpegDecoder&) = delete;
  GpuJpegDecoder& operator=(const GpuJpegDecoder&) = delete;

  // Whether it decodes that file, which libjpeg says has that size.
  [[nodiscard]] virtual bool takes(const std::uint8_t* data, std::size_t bytes, Size size) = 0;

  // Gives the work to a stream that has none, as hardware may write before what the stream holds is done. The files
  // must be those that it takes, and stay until the stream has done. False where the library refuses one of them; what
  // it wrote until then counts for nothing, and the stream is empty.
  [[nodiscard]] virtual bool decode(const std::vector<EncodedJpeg>& files, cudaStream_t stream) = 0;
};

// The library; any number of threads.
class GpuJpegs {
 public:
  GpuJpegs() = default;
  virtual ~GpuJpegs() = default;
  GpuJpegs(const GpuJpegs&) = delete;
  GpuJpegs& operator=(const GpuJpegs&) = delete;

  // Of which this must outlive it.
  [[nodiscard]] virtual std::unique_ptr<GpuJpegDecoder> decoder() = 0;
  // Such as "nvjpeg, hardware".
  [[nodiscard]] virtual std::string name() const = 0;
};

#ifdef VITRIFY_NVJPEG
struct NvjpegOptions {
  std::string backend = "auto";  // hardware, gpu-hybrid or hybrid; auto takes the first that this GPU has
  // Chroma between its samples is interpolated, as libjpeg-turbo does, and not repeated.
  bool interpolate = true;
};

// Throws DeviceError where this GPU has no such backend.
[[nodiscard]] std::unique_ptr<GpuJpegs> open_nvjpeg(const NvjpegOptions& options = {});
#endif

}  // namespace vitrify::engines
