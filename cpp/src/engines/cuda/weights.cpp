// A network's numbers on their way to the GPU.
#include <algorithm>
#include <cmath>

#include "network.hpp"
#include "vit_kernels.hpp"

namespace vitrify::engines {
namespace {

constexpr float kE4m3Largest = 448.0F;
constexpr std::size_t kMostScalars = 4096;
constexpr std::size_t kScalarStride = 64;  // floats: cuBLASLt wants its scales aligned

// cuBLASLt wants 16-byte rows.
int padded_depth(int patch) { return (3 * patch * patch + 15) / 16 * 16; }

void start(cudaError_t status) { check(status, "CUDA does not start a kernel"); }

float largest_magnitude(const std::vector<float>& values) {
  float most = 0;
  for (const float value : values) {
    most = std::max(most, std::fabs(value));
  }
  return most;
}

}  // namespace

const float* Weights::scalar(float value) {
  if (scalars_used_ == kMostScalars) {
    throw RuntimeFailureError("the network has too many blocks", {}, std::to_string(kMostScalars) + " scales");
  }
  float* at = static_cast<float*>(scalars_.get()) + kScalarStride * scalars_used_++;
  check(cudaMemcpy(at, &value, sizeof(value), cudaMemcpyHostToDevice), "CUDA does not copy");
  return at;
}

DeviceMemory Weights::vector(const std::vector<float>& values, Number number) {
  const std::size_t bytes = values.size() * sizeof(float);
  if (number == Number::float32) {
    DeviceMemory memory = device_memory(bytes);
    check(cudaMemcpy(memory.get(), values.data(), bytes, cudaMemcpyHostToDevice), "CUDA does not copy");
    return memory;
  }
  if (bytes > upload_bytes_) {
    upload_.reset();
    upload_ = device_memory(bytes);
    upload_bytes_ = bytes;
  }
  check(cudaMemcpy(upload_.get(), values.data(), bytes, cudaMemcpyHostToDevice), "CUDA does not copy");
  DeviceMemory memory = device_memory(number == Number::float16 ? bytes / 2 : bytes / 4);
  const float scale = number == Number::float16 ? 1 : kE4m3Largest / std::max(largest_magnitude(values), 1e-30F);
  start(cuda::launch_convert(static_cast<const float*>(upload_.get()), static_cast<std::int64_t>(values.size()), scale,
                             memory.get(), number == Number::e4m3, nullptr));
  check(cudaStreamSynchronize(nullptr), "the GPU failed on the weights");
  return memory;
}

Weights::Layer Weights::layer(const Linear& linear, Number number, int inputs, Number bias) {
  Layer layer;
  layer.number = number;
  layer.outputs = linear.outputs;
  layer.inputs = inputs;
  if (inputs == linear.inputs) {
    layer.weight = vector(linear.weight, number);
  } else {
    std::vector<float> padded(static_cast<std::size_t>(linear.outputs) * static_cast<std::size_t>(inputs));
    for (int row = 0; row < linear.outputs; ++row) {
      std::copy_n(linear.weight.begin() + static_cast<std::ptrdiff_t>(row) * linear.inputs, linear.inputs,
                  padded.begin() + static_cast<std::ptrdiff_t>(row) * inputs);
    }
    layer.weight = vector(padded, number);
  }
  if (number == Number::e4m3) {
    layer.weight_scale = scalar(std::max(largest_magnitude(linear.weight), 1e-30F) / kE4m3Largest);
  }
  if (!linear.bias.empty()) {
    layer.bias = vector(linear.bias, bias);
  }
  return layer;
}

Weights::Weights(const Vit& found, const std::vector<Magnitudes>& magnitudes)
    : e4m3(!magnitudes.empty()),
      depth(padded_depth(found.patch)),
      scalars_(device_memory(kMostScalars * kScalarStride * sizeof(float))) {
  const auto width = static_cast<std::size_t>(found.width);
  std::vector<float> unadded(width);
  const auto add = [&](const std::vector<float>& bias) {
    for (std::size_t i = 0; i < width; ++i) {
      unadded[i] += bias[i];
    }
  };
  Linear patch;
  patch.outputs = found.width;
  patch.inputs = 3 * found.patch * found.patch;
  patch.weight = found.patch_weight;
  patches = layer(patch, Number::float16, depth, Number::float16);
  base = vector(found.base, Number::float16);
  for (std::size_t i = 0; i < found.blocks.size(); ++i) {
    const Block& from = found.blocks[i];
    const Number number = e4m3 ? Number::e4m3 : Number::float16;
    // What the last block does for one token alone is too little to be worth fewer bits.
    const Number few = i + 1 == found.blocks.size() && !found.mean ? Number::float16 : number;
    BlockWeights& block = blocks.emplace_back();
    block.qkv = layer(from.qkv, number, found.width, Number::float16);
    block.projection = layer(from.projection, few, found.width, Number::float16);
    block.up = layer(from.up, few, found.width, Number::float16);
    block.down = layer(from.down, few, found.hidden, Number::float16);
    block.before_attention = vector(unadded, Number::float32);
    add(from.projection.bias);
    block.before_mlp = vector(unadded, Number::float32);
    add(from.down.bias);
    if (e4m3) {
      const auto scale = [&](float magnitude) {
        const float most = std::max(magnitude, 1e-6F);
        return BlockWeights::Scale{scalar(kE4m3Largest / most), scalar(most / kE4m3Largest)};
      };
      block.attention_norm = scale(magnitudes[i].attention_norm);
      block.attention = scale(magnitudes[i].attention);
      block.mlp_norm = scale(magnitudes[i].mlp_norm);
      block.gelu = scale(magnitudes[i].gelu);
    }
  }
  before_head = vector(unadded, Number::float32);
  classifier = layer(found.classifier, Number::float16, found.width, Number::float32);
  vit.image_height = found.image_height;
  vit.image_width = found.image_width;
  vit.patch = found.patch;
  vit.prefix = found.prefix;
  vit.tokens = found.tokens;
  vit.width = found.width;
  vit.heads = found.heads;
  vit.head = found.head;
  vit.hidden = found.hidden;
  vit.classes = found.classes;
  vit.mean = found.mean;
  vit.token = found.token;
  vit.norm_before_mean = found.norm_before_mean;
  vit.epsilon = found.epsilon;
  for (const Block& from : found.blocks) {
    Block& block = vit.blocks.emplace_back();
    block.attention_epsilon = from.attention_epsilon;
    block.mlp_epsilon = from.mlp_epsilon;
  }
  upload_.reset();
}

}  // namespace vitrify::engines
