// A Vision Transformer as this engine computes it, and how it is found in an ONNX graph.
#pragma once

#include <string>
#include <vector>

#include "onnx_graph.hpp"
#include "vitrify/spec.hpp"

namespace vitrify::engines {

// y = x weight^T + bias, weight [outputs, inputs].
struct Linear {
  int outputs = 0;
  int inputs = 0;
  std::vector<float> weight;
  std::vector<float> bias;
};

// A norm's weight and bias are folded into the product behind it, a layer scale into the product before it, and the
// scale of the attention, times log2(e), into the queries.
struct Block {
  float attention_epsilon = 0;
  Linear qkv;
  Linear projection;
  float mlp_epsilon = 0;
  Linear up;  // GELU follows
  Linear down;
};

struct Vit {
  int image_height = 0;
  int image_width = 0;
  int patch = 0;
  int prefix = 0;  // tokens before those of the patches
  int tokens = 0;  // all of them
  int width = 0;
  int heads = 0;
  int head = 0;  // width of one
  int hidden = 0;
  int classes = 0;
  std::vector<float> patch_weight;  // [width, 3 * patch * patch]
  std::vector<float> base;          // [tokens, width]: positions, prefix tokens, the patches' bias
  std::vector<Block> blocks;
  // The head reads one token, or the mean of those from `token` on.
  bool mean = false;
  int token = 0;
  bool norm_before_mean = false;
  float epsilon = 0;
  Linear classifier;
};

// Finds the network in the graph by what its nodes compute; names mean nothing. Throws ArtifactError with the node that
// does not fit.
[[nodiscard]] Vit vit_from_graph(const OnnxGraph& graph, const ModelSpec& spec, const std::string& path);

}  // namespace vitrify::engines
