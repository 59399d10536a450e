#include "image_stage.hpp"

#include <cstring>
#include <utility>

namespace vitrify::engines {
namespace {

enum Mark : std::size_t { kDecodeBegin, kDecodeEnd, kCopyBegin, kCopyEnd };

}  // namespace

ImageStage::ImageStage(const Preprocess& preprocess, std::unique_ptr<GpuJpegDecoder> jpegs)
    : preprocess_(&preprocess),
      jpegs_(std::move(jpegs)),
      stream_(create_stream()),
      ready_(create_event(cudaEventDisableTiming)) {
  const cuda::Table table = cuda::normalised(preprocess);
  table_ = device_memory(sizeof(table));
  check(cudaMemcpy(table_.get(), table.data(), sizeof(table), cudaMemcpyHostToDevice), "CUDA does not copy");
}

void ImageStage::fill(const std::vector<StoredImage>& images, const Engine::Decode& decode, bool timed) {
  timed_ = timed;
  try {
    if (timed) {
      marks_.mark(kDecodeBegin, stream_.get());
    }
    arrange(images, jpegs_ != nullptr);
    decoded_ = start_jpegs();
    if (!decoded_ && !encoded_.empty()) {
      arrange(images, false);  // the CPU says which of them is damaged, and decodes the others
    }
    if (timed) {
      marks_.mark(kDecodeEnd, stream_.get());
    }
    decode(windows_);
    copy();
  } catch (...) {
    // The caller's memory goes away, and the next batch takes this one's.
    cudaStreamSynchronize(stream_.get());
    throw;
  }
}

void ImageStage::arrange(const std::vector<StoredImage>& images, bool with_jpegs) {
  plan_.clear();
  encoded_.clear();
  jobs_.resize(images.size());
  windows_.assign(images.size(), {});
  places_.assign(images.size(), 0);
  std::vector<std::size_t> others;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const StoredImage& image = images[i];
    if (!with_jpegs || image.jpeg == nullptr || !jpegs_->takes(image.jpeg, image.jpeg_bytes, image.size)) {
      others.push_back(i);
      continue;
    }
    places_[i] = plan_.add(image.size, image.orientation, *preprocess_, true).at;
    jobs_[i] = plan_.jobs.back();
    encoded_.push_back({image.jpeg, image.jpeg_bytes, image.size, nullptr});
    windows_[i].size = image.size;
  }
  decoded_bytes_ = plan_.pixel_bytes;
  for (const std::size_t i : others) {
    const cuda::Window window = plan_.add(images[i].size, images[i].orientation, *preprocess_);
    places_[i] = window.at;
    jobs_[i] = plan_.jobs.back();
    windows_[i] = {nullptr, window.column, window.row, window.size};
  }
  reserve();
  auto* staged = static_cast<std::uint8_t*>(staged_.get());
  for (const std::size_t i : others) {
    windows_[i].rgb = staged + (places_[i] - decoded_bytes_);
  }
  auto* device = static_cast<std::uint8_t*>(device_.get());
  std::size_t next = 0;
  for (std::size_t i = 0; i < images.size() && next < encoded_.size(); ++i) {
    if (windows_[i].rgb == nullptr) {
      encoded_[next++].rgb = device + places_[i];
    }
  }
}

bool ImageStage::start_jpegs() { return !encoded_.empty() && jpegs_->decode(encoded_, stream_.get()); }

void ImageStage::copy() {
  const std::size_t jobs = plan_.pixel_bytes;
  const std::size_t numbers = jobs + jobs_.size() * sizeof(cuda::Job);
  const std::size_t end = numbers + plan_.numbers.size() * sizeof(std::int32_t);
  auto* staged = static_cast<std::uint8_t*>(staged_.get());
  std::memcpy(staged + (jobs - decoded_bytes_), jobs_.data(), numbers - jobs);
  std::memcpy(staged + (numbers - decoded_bytes_), plan_.numbers.data(), end - numbers);
  auto* device = static_cast<std::uint8_t*>(device_.get());
  if (timed_) {
    marks_.mark(kCopyBegin, stream_.get());
  }
  check(cudaMemcpyAsync(device + decoded_bytes_, staged, end - decoded_bytes_, cudaMemcpyHostToDevice, stream_.get()),
        "CUDA does not copy");
  if (timed_) {
    marks_.mark(kCopyEnd, stream_.get());
  }
  check(cudaEventRecord(ready_.get(), stream_.get()), "CUDA records no event");
  batch_ = {reinterpret_cast<const cuda::Job*>(device + jobs), reinterpret_cast<const std::int32_t*>(device + numbers),
            device, static_cast<const float*>(table_.get()), static_cast<unsigned>(jobs_.size())};
}

void ImageStage::reserve() {
  const std::size_t device =
      plan_.pixel_bytes + jobs_.size() * sizeof(cuda::Job) + plan_.numbers.size() * sizeof(std::int32_t);
  const std::size_t staged = device - decoded_bytes_;
  if (staged > staged_capacity_) {
    staged_capacity_ = 0;
    staged_.reset();
    staged_ = pinned_memory(staged + staged / 4);
    staged_capacity_ = staged + staged / 4;
  }
  if (device > device_capacity_) {
    device_capacity_ = 0;
    device_.reset();
    device_ = device_memory(device + device / 4);
    device_capacity_ = device + device / 4;
  }
}

void ImageStage::tell(StageTimes& times) const {
  times.nvjpeg = decoded_ ? marks_.ms_between(kDecodeBegin, kDecodeEnd) : 0;
  times.copy = marks_.ms_between(kCopyBegin, kCopyEnd);
}

}  // namespace vitrify::engines
