#include <nvjpeg.h>

#include <cstdlib>
#include <utility>

#include "cuda_memory.hpp"
#include "gpu_jpeg.hpp"
#include "nvjpeg_probe.hpp"

namespace vitrify::engines {
namespace {

constexpr const char* kHardware = "hardware";

void check_jpeg(nvjpegStatus_t status, const char* what) {
  if (status != NVJPEG_STATUS_SUCCESS) {
    throw DeviceError(what, "nvJPEG's status " + std::to_string(static_cast<int>(status)), {},
                      "decode on the CPU: --decode cpu");
  }
}

struct DestroyHandle {
  void operator()(nvjpegHandle* handle) const noexcept { nvjpegDestroy(handle); }
};
struct DestroyState {
  void operator()(nvjpegJpegState* state) const noexcept { nvjpegJpegStateDestroy(state); }
};
struct DestroyBitstream {
  void operator()(nvjpegJpegStream* stream) const noexcept { nvjpegJpegStreamDestroy(stream); }
};
using Handle = std::unique_ptr<nvjpegHandle, DestroyHandle>;
using State = std::unique_ptr<nvjpegJpegState, DestroyState>;
using Bitstream = std::unique_ptr<nvjpegJpegStream, DestroyBitstream>;

class NvjpegDecoder final : public GpuJpegDecoder {
 public:
  NvjpegDecoder(nvjpegHandle_t handle, bool hardware)
      : handle_(handle), hardware_(hardware), state_(new_state(handle)) {
    nvjpegJpegStream_t bitstream = nullptr;
    check_jpeg(nvjpegJpegStreamCreate(handle, &bitstream), "nvJPEG makes no bitstream");
    bitstream_.reset(bitstream);
  }

  bool takes(const std::uint8_t* data, std::size_t bytes, Size size) override {
    // The whole file is parsed, not its header alone: what is wrong with it must come out before hardware sees it.
    unsigned width = 0;
    unsigned height = 0;
    if (nvjpegJpegStreamParse(handle_, data, bytes, 0, 0, bitstream_.get()) != NVJPEG_STATUS_SUCCESS ||
        nvjpegJpegStreamGetFrameDimensions(bitstream_.get(), &width, &height) != NVJPEG_STATUS_SUCCESS ||
        width != static_cast<unsigned>(size.width) || height != static_cast<unsigned>(size.height)) {
      return false;
    }
    int refused = 0;  // the function calls it is_supported, and it is 0 for what is supported
    return !hardware_ ||
           (nvjpegDecodeBatchedSupported(handle_, bitstream_.get(), &refused) == NVJPEG_STATUS_SUCCESS && refused == 0);
  }

  bool decode(const std::vector<EncodedJpeg>& files, cudaStream_t stream) override {
    std::vector<const unsigned char*> data;
    std::vector<std::size_t> lengths;
    std::vector<nvjpegImage_t> images(files.size());
    for (std::size_t i = 0; i < files.size(); ++i) {
      data.push_back(files[i].data);
      lengths.push_back(files[i].bytes);
      images[i].channel[0] = files[i].rgb;
      images[i].pitch[0] = 3 * static_cast<std::size_t>(files[i].size.width);
    }
    if (files.size() != batch_) {
      batch_ = 0;
      if (nvjpegDecodeBatchedInitialize(handle_, state_.get(), static_cast<int>(files.size()), 1, NVJPEG_OUTPUT_RGBI) !=
          NVJPEG_STATUS_SUCCESS) {
        return give_up(stream);
      }
      batch_ = files.size();
    }
    if (nvjpegDecodeBatched(handle_, state_.get(), data.data(), lengths.data(), images.data(), stream) !=
        NVJPEG_STATUS_SUCCESS) {
      return give_up(stream);
    }
    return true;
  }

 private:
  static State new_state(nvjpegHandle_t handle) {
    nvjpegJpegState_t state = nullptr;
    check_jpeg(nvjpegJpegStateCreate(handle, &state), "nvJPEG makes no decoder");
    return State(state);
  }

  // What a failed batch left behind must not reach the next one.
  bool give_up(cudaStream_t stream) {
    check(cudaStreamSynchronize(stream), "the GPU failed while it decoded JPEGs");
    static_cast<void>(cudaGetLastError());
    state_ = new_state(handle_);
    batch_ = 0;
    return false;
  }

  nvjpegHandle_t handle_;
  bool hardware_;
  State state_;
  Bitstream bitstream_;
  std::size_t batch_ = 0;  // that the state is set up for
};

class Nvjpeg final : public GpuJpegs {
 public:
  Nvjpeg(Handle handle, std::string backend) : handle_(std::move(handle)), backend_(std::move(backend)) {}
  std::unique_ptr<GpuJpegDecoder> decoder() override {
    return std::make_unique<NvjpegDecoder>(handle_.get(), backend_ == kHardware);
  }
  [[nodiscard]] std::string name() const override { return "nvjpeg, " + backend_; }

 private:
  Handle handle_;
  std::string backend_;
};

// Whether it decodes an image, and to the right colour: a backend may start on a machine that lacks what it needs.
bool works(GpuJpegs& jpegs) {
  const auto decoder = jpegs.decoder();
  const Stream stream = create_stream();
  const Size size{kProbeSide, kProbeSide};
  std::vector<std::uint8_t> rgb(std::size_t{3} * kProbeSide * kProbeSide);
  const DeviceMemory memory = device_memory(rgb.size());
  auto* there = static_cast<std::uint8_t*>(memory.get());
  check(cudaMemset(there, 0, rgb.size()), "CUDA does not clear");
  check(cudaDeviceSynchronize(), "the GPU failed");
  if (!decoder->takes(kProbe, sizeof(kProbe), size) ||
      !decoder->decode({{kProbe, sizeof(kProbe), size, there}}, stream.get())) {
    return false;
  }
  check(cudaStreamSynchronize(stream.get()), "the GPU failed while it decoded a JPEG");
  check(cudaMemcpy(rgb.data(), there, rgb.size(), cudaMemcpyDeviceToHost), "CUDA does not copy");
  for (std::size_t i = 0; i < rgb.size(); ++i) {
    if (std::abs(int{rgb[i]} - int{kProbeColour[i % 3]}) > kProbeTolerance) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::unique_ptr<GpuJpegs> open_nvjpeg(const NvjpegOptions& options) {
  struct Backend {
    const char* name;
    nvjpegBackend_t value;
  };
  unsigned flags = NVJPEG_FLAGS_DEFAULT;
#ifdef NVJPEG_FLAGS_UPSAMPLING_WITH_INTERPOLATION
  flags = options.interpolate ? (NVJPEG_FLAGS_UPSAMPLING_WITH_INTERPOLATION) : flags;
#endif
  std::string refusals;
  for (const Backend& backend :
       {Backend{kHardware, NVJPEG_BACKEND_HARDWARE}, Backend{"gpu-hybrid", NVJPEG_BACKEND_GPU_HYBRID},
        Backend{"hybrid", NVJPEG_BACKEND_HYBRID}}) {
    if (options.backend != "auto" && options.backend != backend.name) {
      continue;
    }
    nvjpegHandle_t handle = nullptr;
    const nvjpegStatus_t status = nvjpegCreateEx(backend.value, nullptr, nullptr, flags, &handle);
    std::string refusal = "nvJPEG's status " + std::to_string(static_cast<int>(status));
    if (status == NVJPEG_STATUS_SUCCESS) {
      auto jpegs = std::make_unique<Nvjpeg>(Handle(handle), backend.name);
      if (works(*jpegs)) {
        return jpegs;
      }
      refusal = "it does not decode a test image";
    }
    static_cast<void>(cudaGetLastError());
    refusals += (refusals.empty() ? "" : ", ") + std::string(backend.name) + ": " + refusal;
  }
  throw DeviceError("nvJPEG does not start", refusals, {}, "decode on the CPU: --decode cpu");
}

}  // namespace vitrify::engines
