// A Vision Transformer in float64 on the CPU, from what the cuda engine found in a graph: slow, and plain enough to be
// believed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "engines/cuda/vit.hpp"
#include "patch_order.hpp"

namespace vitrify::test {

using Rows = std::vector<double>;

inline Rows multiply(const Rows& x, const engines::Linear& linear) {
  const auto inputs = static_cast<std::size_t>(linear.inputs);
  const auto outputs = static_cast<std::size_t>(linear.outputs);
  const std::size_t rows = x.size() / inputs;
  Rows y(rows * outputs);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t n = 0; n < outputs; ++n) {
      double sum = linear.bias.empty() ? 0 : static_cast<double>(linear.bias[n]);
      for (std::size_t k = 0; k < inputs; ++k) {
        sum += x[row * inputs + k] * static_cast<double>(linear.weight[n * inputs + k]);
      }
      y[row * outputs + n] = sum;
    }
  }
  return y;
}

inline Rows normalise(const Rows& x, std::size_t width, float epsilon) {
  Rows y(x.size());
  for (std::size_t row = 0; row < x.size() / width; ++row) {
    double mean = 0;
    double squares = 0;
    for (std::size_t i = 0; i < width; ++i) {
      mean += x[row * width + i] / static_cast<double>(width);
    }
    for (std::size_t i = 0; i < width; ++i) {
      squares += std::pow(x[row * width + i] - mean, 2) / static_cast<double>(width);
    }
    for (std::size_t i = 0; i < width; ++i) {
      y[row * width + i] = (x[row * width + i] - mean) / std::sqrt(squares + static_cast<double>(epsilon));
    }
  }
  return y;
}

inline Rows attend(const Rows& qkv, std::size_t tokens, std::size_t heads, std::size_t head) {
  const std::size_t width = heads * head;
  Rows out(tokens * width);
  for (std::size_t h = 0; h < heads; ++h) {
    for (std::size_t q = 0; q < tokens; ++q) {
      Rows scores(tokens);
      double sum = 0;
      for (std::size_t k = 0; k < tokens; ++k) {
        for (std::size_t d = 0; d < head; ++d) {
          scores[k] += qkv[q * 3 * width + h * head + d] * qkv[(k * 3 + 1) * width + h * head + d];
        }
      }
      const double largest = *std::max_element(scores.begin(), scores.end());
      for (double& score : scores) {
        score = std::exp2(score - largest);
        sum += score;
      }
      for (std::size_t k = 0; k < tokens; ++k) {
        for (std::size_t d = 0; d < head; ++d) {
          out[q * width + h * head + d] += scores[k] / sum * qkv[(k * 3 + 2) * width + h * head + d];
        }
      }
    }
  }
  return out;
}

// The logits of one image, [3, height, width].
inline Rows logits_of(const engines::Vit& vit, const std::vector<float>& pixels) {
  const auto width = static_cast<std::size_t>(vit.width);
  const auto tokens = static_cast<std::size_t>(vit.tokens);
  engines::Linear patches;
  patches.inputs = 3 * vit.patch * vit.patch;
  patches.outputs = vit.width;
  patches.weight = vit.patch_weight;
  const int across = vit.image_width / vit.patch;
  const int down = vit.image_height / vit.patch;
  Rows rows(tokens * static_cast<std::size_t>(patches.inputs));
  for (std::int64_t i = 0; i < std::int64_t{across} * down * patches.inputs; ++i) {
    const cuda::PatchValue value = cuda::patch_value(i, patches.inputs, 1, across, down);
    const auto row = static_cast<std::size_t>(vit.prefix + value.row * across + value.column);
    rows[row * static_cast<std::size_t>(patches.inputs) + static_cast<std::size_t>(value.at)] = static_cast<double>(
        pixels[static_cast<std::size_t>(cuda::pixel_of(value, vit.patch, vit.image_width, vit.image_height))]);
  }
  Rows x = multiply(rows, patches);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] += static_cast<double>(vit.base[i]);
  }
  const auto add = [&](const Rows& more) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] += more[i];
    }
  };
  for (const engines::Block& block : vit.blocks) {
    const Rows qkv = multiply(normalise(x, width, block.attention_epsilon), block.qkv);
    add(multiply(attend(qkv, tokens, static_cast<std::size_t>(vit.heads), static_cast<std::size_t>(vit.head)),
                 block.projection));
    Rows hidden = multiply(normalise(x, width, block.mlp_epsilon), block.up);
    for (double& value : hidden) {
      value *= 0.5 * (1 + std::erf(value / std::sqrt(2.0)));
    }
    add(multiply(hidden, block.down));
  }
  if (vit.norm_before_mean) {
    x = normalise(x, width, vit.epsilon);
  }
  const auto first = static_cast<std::size_t>(vit.token);
  const std::size_t last = vit.mean ? tokens : first + 1;
  Rows read(width);
  for (std::size_t token = first; token < last; ++token) {
    for (std::size_t i = 0; i < width; ++i) {
      read[i] += x[token * width + i] / static_cast<double>(last - first);
    }
  }
  return multiply(vit.norm_before_mean ? read : normalise(read, width, vit.epsilon), vit.classifier);
}

}  // namespace vitrify::test
