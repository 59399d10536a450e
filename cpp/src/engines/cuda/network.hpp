// A Vision Transformer's weights on the GPU, and the kernels that run a batch of it.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../cuda_memory.hpp"
#include "products.hpp"
#include "tunings.hpp"
#include "vit.hpp"

namespace vitrify::engines {

// The largest magnitude of each block's four 8-bit inputs, as calibration saw it: of both norms' rows, of the
// attention's and of GELU's.
struct Magnitudes {
  float attention_norm = 0;
  float attention = 0;
  float mlp_norm = 0;
  float gelu = 0;
};

// The weights, once for all workers.
class Weights {
 public:
  // In float16, or where `magnitudes` has one entry a block, the blocks' products in e4m3.
  Weights(const Vit& vit, const std::vector<Magnitudes>& magnitudes);

  struct Layer {
    DeviceMemory weight;
    DeviceMemory bias;
    Number number = Number::float16;
    int outputs = 0;
    int inputs = 0;
    const float* weight_scale = nullptr;  // of e4m3
  };
  struct BlockWeights {
    Layer qkv;
    Layer projection;
    Layer up;
    Layer down;
    DeviceMemory before_attention;  // [width] float32: the biases that nobody added so far
    DeviceMemory before_mlp;
    // Of e4m3: what a row is multiplied with, and what brings it back. Null in float16.
    struct Scale {
      const float* forth = nullptr;
      const float* back = nullptr;
    };
    Scale attention_norm, attention, mlp_norm, gelu;
  };

  Vit vit;  // without its numbers
  bool e4m3 = false;
  int depth = 0;  // of a row of patches, padded
  Layer patches;
  DeviceMemory base;  // [tokens, width] float16
  std::vector<BlockWeights> blocks;
  DeviceMemory before_head;
  Layer classifier;

 private:
  const float* scalar(float value);
  Layer layer(const Linear& linear, Number number, int inputs, Number bias);
  DeviceMemory vector(const std::vector<float>& values, Number number);

  DeviceMemory scalars_;
  std::size_t scalars_used_ = 0;
  DeviceMemory upload_;
  std::size_t upload_bytes_ = 0;
};

// Runs batches on one stream. Not for several threads at once.
class Network {
 public:
  explicit Network(const Weights& weights, Tunings tunings = {});

  // Runs `count` images, whose tensors lie in `pixels()` in float32, or in float16 where `half` is set, and leaves
  // their logits in `logits()`. The first batch of a size is tuned, unless the tunings have it, and recorded; the next
  // are one launch.
  void run(int count, bool half);
  // Room for `count` images; what was in it is lost.
  void reserve(int count);

  // On the GPU.
  [[nodiscard]] void* pixels() const { return pixels_.get(); }
  [[nodiscard]] const float* logits() const { return static_cast<const float*>(logits_.get()); }
  [[nodiscard]] cudaStream_t stream() const { return stream_.get(); }
  [[nodiscard]] const Products& products() const { return products_; }
  // Images that a batch of this size is worked through at once.
  [[nodiscard]] int piece_of(int count, bool half) const;

  // Runs the images in `pixels()` kernel by kernel, and gives what each block's 8-bit inputs would have to hold.
  std::vector<Magnitudes> magnitudes(int count, bool half);

 private:
  struct Recorded {
    ExecutableGraph graph;
    int piece = 0;
    std::vector<ProductShape> shapes;  // of its products
  };
  using Key = std::pair<int, bool>;

  Recorded tuned(int count, bool half);
  Recorded best(int count, bool half);
  [[nodiscard]] std::string key(int count, bool half) const;
  Recorded record(int count, bool half, int piece);
  float time(const Recorded& one);
  void work(int count, bool half, int piece);
  void piece(const unsigned char* pixels, bool half, int images, float* logits);
  void block(const Weights::BlockWeights& block, const Block& numbers, int images);
  void last_block(const Weights::BlockWeights& block, const Block& numbers, int images);
  void head(int images, float* logits);
  void product(const Weights::Layer& layer, const void* x, void* d, int rows, Epilogue epilogue, bool adds,
               const Weights::BlockWeights::Scale& scale, const float* d_scale);
  void look(const void* values, std::int64_t count);

  const Weights* weights_;
  Tunings tunings_;
  Products products_;
  Stream stream_;
  int room_ = 0;
  DeviceMemory pixels_, logits_;
  DeviceMemory rows_, x_, y_, wide_, hidden_;                // of a piece
  DeviceMemory token_x_, token_y_, token_q_, token_hidden_;  // of one token an image
  std::map<Key, Recorded> recorded_;
  float* looked_ = nullptr;  // where calibration writes next
};

}  // namespace vitrify::engines
