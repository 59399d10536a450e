// The images of one batch on their way to the GPU.
//
// While a worker infers one batch, another one is decoded into a stage of its own: into page-locked memory, or, where
// nvJPEG decodes, into the GPU's. A stage has its own stream, so that its copy does not wait for inference either.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda_memory.hpp"
#include "gpu_jpeg.hpp"
#include "launch.hpp"
#include "preprocess.hpp"
#include "vitrify/engine.hpp"

namespace vitrify::engines {

// Not for several threads at once.
class ImageStage {
 public:
  // Decodes JPEGs with `jpegs`, or, where that is null, not itself. The preprocessing must outlive it.
  ImageStage(const Preprocess& preprocess, std::unique_ptr<GpuJpegDecoder> jpegs);

  // Decodes images and starts their copy. Whatever used the stage's last batch must be done. Measures where `timed` is
  // set. Throws what Engine::infer_images throws.
  void fill(const std::vector<StoredImage>& images, const Engine::Decode& decode, bool timed);

  // What is in the GPU's memory once `ready` has passed.
  [[nodiscard]] const cuda::Batch& batch() const { return batch_; }
  [[nodiscard]] cudaEvent_t ready() const { return ready_.get(); }

  // Of the last batch, once it is ready.
  void tell(StageTimes& times) const;

 private:
  // Decides who decodes which image, and where its pixels go.
  void arrange(const std::vector<StoredImage>& images, bool with_jpegs);
  bool start_jpegs();
  void copy();

  // Room for a batch; it grows with the largest so far, and then no more.
  void reserve();

  const Preprocess* preprocess_;
  std::unique_ptr<GpuJpegDecoder> jpegs_;
  Stream stream_;
  Event ready_;
  DeviceMemory table_;

  cuda::Plan plan_;  // images that the GPU decodes before the others
  std::vector<cuda::Job> jobs_;
  std::vector<PixelWindow> windows_;
  std::vector<std::size_t> places_;   // of the windows in the plan
  std::vector<EncodedJpeg> encoded_;  // whose `rgb` are offsets until the memory is there
  std::size_t decoded_bytes_ = 0;     // of the plan's pixels, which the GPU decodes

  // Device memory: the plan's pixels, the jobs, the tables. What is not decoded there comes from the page-locked memory
  // in one copy.
  std::size_t device_capacity_ = 0;
  std::size_t staged_capacity_ = 0;
  DeviceMemory device_;
  PinnedMemory staged_;
  cuda::Batch batch_{};
  Marks marks_;
  bool timed_ = false;
  bool decoded_ = false;
};

}  // namespace vitrify::engines
