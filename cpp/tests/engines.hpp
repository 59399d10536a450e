// Engines that compute by a formula, so that sanitizers see all of them.
#pragma once

#include <algorithm>
#include <atomic>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "reader.hpp"
#include "shares.hpp"
#include "tiles.hpp"
#include "vitrify/engine.hpp"

namespace vitrify::test {

// Each logit is the mean of a stretch of the tensor.
class MeansEngine final : public Engine {
 public:
  explicit MeansEngine(const ModelSpec& spec) : size_(spec.tensor_size()), classes_(spec.labels.size()) {}

  void infer(const float* tensors, std::size_t count, float* logits) override {
    largest_batch = std::max(largest_batch.load(), count);
    for (std::size_t i = 0; i < count * classes_; ++i) {
      const float* stretch = tensors + i / classes_ * size_ + i % classes_ * (size_ / classes_);
      logits[i] = std::accumulate(stretch, stretch + size_ / classes_, 0.0F) / static_cast<float>(size_ / classes_);
    }
  }
  [[nodiscard]] std::string name() const override { return "means"; }
  [[nodiscard]] std::string version() const override { return "1"; }

  std::atomic<std::size_t> largest_batch{0};

 private:
  std::size_t size_;
  std::size_t classes_;
};

// Prepares images itself, as an engine on a GPU does: the same plan, the same windows, the same arithmetic. Where
// `jpegs` is set, it decodes plain JPEGs itself too, all of them.
class PreparingEngine final : public Engine {
 public:
  explicit PreparingEngine(const ModelSpec& spec, bool jpegs = false)
      : spec_(spec), jpegs_(jpegs), table_(cuda::normalised(spec.preprocess)), means_(spec) {}

  void infer(const float* tensors, std::size_t count, float* logits) override { means_.infer(tensors, count, logits); }
  [[nodiscard]] bool prepares_images() const noexcept override { return true; }

  void infer_images(const std::vector<StoredImage>& images, const Decode& decode, float* logits,
                    StageTimes* /*times*/) override {
    cuda::Plan plan;
    std::vector<cuda::Window> windows;
    for (const StoredImage& image : images) {
      windows.push_back(plan.add(image.size, image.orientation, spec_.preprocess, own(image)));
    }
    std::vector<std::uint8_t> pixels(plan.pixel_bytes);
    std::vector<PixelWindow> places;
    for (std::size_t i = 0; i < images.size(); ++i) {
      const cuda::Window& window = windows[i];
      places.push_back({pixels.data() + window.at, window.column, window.row, window.size});
      if (own(images[i])) {
        decode_whole(images[i], places.back().rgb);
        places.back().rgb = nullptr;
        ++decoded;
      }
    }
    decode(places);
    for (std::size_t i = 0; i < images.size(); ++i) {
      const std::vector<float> tensor = run_tiles(plan.jobs[i], plan.numbers, pixels.data(), table_, spec_.preprocess);
      means_.infer(tensor.data(), 1, logits + i * spec_.labels.size());
    }
  }

  [[nodiscard]] std::string name() const override { return "preparing"; }
  [[nodiscard]] std::string version() const override { return "1"; }
  [[nodiscard]] std::string jpeg_decoder() const override { return jpegs_ ? "its own" : ""; }

  std::atomic<std::size_t> decoded{0};  // JPEGs, by the engine

 private:
  [[nodiscard]] bool own(const StoredImage& image) const { return jpegs_ && image.jpeg != nullptr; }

  static void decode_whole(const StoredImage& image, std::uint8_t* rgb) {
    const pixels::Range columns{0, image.size.width};
    pixels::open(image.jpeg, image.jpeg_bytes, {})
        ->read(columns, {0, image.size.height}, pixels::copy_to(rgb, columns, 0)(0));
  }

  ModelSpec spec_;
  bool jpegs_;
  cuda::Table table_;
  MeansEngine means_;
};

// The same logits whatever comes in.
class FixedEngine final : public Engine {
 public:
  explicit FixedEngine(std::vector<float> logits) : logits_(std::move(logits)) {}
  void infer(const float* /*tensors*/, std::size_t count, float* logits) override {
    for (std::size_t i = 0; i < count; ++i) {
      std::copy(logits_.begin(), logits_.end(), logits + i * logits_.size());
    }
  }
  [[nodiscard]] std::string name() const override { return "fixed"; }
  [[nodiscard]] std::string version() const override { return "1"; }

 private:
  std::vector<float> logits_;
};

}  // namespace vitrify::test
