// Walks an exported graph from the image to the logits. Each step names what it expects; the first node that is
// something else is the answer to why another engine has to run the file.
#include <algorithm>
#include <cmath>
#include <utility>

#include "graph_walk.hpp"
#include "vit.hpp"
#include "vitrify/error.hpp"

namespace vitrify::engines {
namespace {

struct Norm {
  float epsilon = 0;
  std::vector<float> weight;
  std::vector<float> bias;
  std::string output;
};

class Finder {
 public:
  Finder(const OnnxGraph& graph, const ModelSpec& spec, const std::string& path)
      : walk_(graph, path), graph_(&graph), spec_(&spec) {}

  Vit find() {
    std::string x = embedding();
    while (true) {
      // A block begins with a norm whose rows go to the queries; the head's norm is followed by a choice.
      const OnnxNode* norm = walk_.among(x, "LayerNormalization");
      if (norm == nullptr || !walk_.next_is(norm->outputs.front(), "MatMul")) {
        break;
      }
      x = block(x, *norm);
    }
    if (vit_.blocks.empty()) {
      walk_.refuse("no block behind " + x, "LayerNormalization and MatMul");
    }
    end(x);
    return std::move(vit_);
  }

 private:
  std::size_t width() const { return static_cast<std::size_t>(vit_.width); }

  std::string embedding() {
    if (graph_->outputs.size() != 1 || graph_->outputs.front() != spec_->output.name) {
      walk_.refuse(std::to_string(graph_->outputs.size()) + " outputs", spec_->output.name + " alone");
    }
    const OnnxNode& conv = walk_.only(spec_->input.name, "Conv");
    const OnnxTensor* weight = conv.inputs.size() >= 2 ? walk_.constant(conv.inputs[1]) : nullptr;
    walk_.require(weight != nullptr && weight->dims.size() == 4 && weight->dims[1] == 3 &&
                      weight->dims[2] == weight->dims[3] && weight->dims[0] > 0 && weight->dims[2] > 0 &&
                      weight->dims[0] <= 1 << 16 && weight->dims[2] <= 1 << 10,
                  conv, "constant weights [width, 3, patch, patch]");
    vit_.width = static_cast<int>(weight->dims[0]);
    vit_.patch = static_cast<int>(weight->dims[2]);
    const OnnxAttribute* strides = conv.attribute("strides");
    const OnnxAttribute* pads = conv.attribute("pads");
    walk_.require(strides != nullptr && strides->ints == Integers{vit_.patch, vit_.patch} &&
                      conv.integer("group", 1) == 1 && (pads == nullptr || pads->ints == Integers{0, 0, 0, 0}),
                  conv, "patches beside each other, without padding");
    vit_.image_height = spec_->preprocess.crop.height;
    vit_.image_width = spec_->preprocess.crop.width;
    walk_.require(vit_.image_height >= vit_.patch && vit_.image_width >= vit_.patch &&
                      vit_.image_height % vit_.patch == 0 && vit_.image_width % vit_.patch == 0,
                  conv, "an image of whole patches");
    const int patches = vit_.image_height / vit_.patch * (vit_.image_width / vit_.patch);
    vit_.patch_weight = weight->floats();
    walk_.require(!vit_.patch_weight.empty(), conv, "weights in float32 or float16");
    std::vector<float> bias(width());
    if (conv.inputs.size() > 2) {
      const OnnxTensor* given = walk_.constant(conv.inputs[2]);
      walk_.require(given != nullptr, conv, "a constant bias");
      bias = walk_.vector_of(conv, *given, width());
    }
    const OnnxNode& flat = walk_.only(conv.outputs.front(), "Reshape");
    walk_.require(walk_.integers(flat, 1) == Integers{-1, vit_.width, patches}, flat, "[-1, width, patches]");
    const OnnxNode& turned = walk_.only(flat.outputs.front(), "Transpose");
    const OnnxAttribute* order = turned.attribute("perm");
    walk_.require(order != nullptr && order->ints == Integers{0, 2, 1}, turned, "[0, 2, 1]");
    for (int i = 0; i < patches; ++i) {
      vit_.base.insert(vit_.base.end(), bias.begin(), bias.end());
    }
    vit_.tokens = patches;
    std::string x = turned.outputs.front();
    while (walk_.next_is(x, "Add") || walk_.next_is(x, "Concat")) {
      const OnnxNode& node = *walk_.readers(x).front();
      node.op == "Add" ? add_position(node, x) : add_prefix(node, x);
      x = node.outputs.front();
    }
    return x;
  }

  void add_position(const OnnxNode& node, const std::string& x) {
    const OnnxTensor& given = walk_.other(node, x);
    const std::vector<float> values = given.floats();
    walk_.require(values.size() == vit_.base.size() || values.size() == width(), node,
                  "positions [1, " + std::to_string(vit_.tokens) + ", width]");
    for (std::size_t i = 0; i < vit_.base.size(); ++i) {
      vit_.base[i] += values[i % values.size()];
    }
  }

  void add_prefix(const OnnxNode& node, const std::string& x) {
    walk_.require(node.integer("axis", 0) == 1 && !node.inputs.empty() && node.inputs.back() == x, node,
                  "prefix tokens, then the patches', along axis 1");
    std::vector<float> rows;
    for (std::size_t i = 0; i + 1 < node.inputs.size(); ++i) {
      const auto made = std::find_if(graph_->nodes.begin(), graph_->nodes.end(), [&](const OnnxNode& one) {
        return !one.outputs.empty() && one.outputs.front() == node.inputs[i];
      });
      walk_.require(made != graph_->nodes.end() && made->op == "Expand" && !made->inputs.empty(), node,
                    "a constant token for every image");
      const OnnxTensor* token = walk_.constant(made->inputs.front());
      walk_.require(token != nullptr && token->dims.size() == 3 && token->dims[0] == 1 && token->dims[2] == vit_.width,
                    *made, "a constant [1, tokens, width]");
      const std::vector<float> values = token->floats();
      rows.insert(rows.end(), values.begin(), values.end());
    }
    const auto added = static_cast<int>(rows.size() / width());
    vit_.base.insert(vit_.base.begin(), rows.begin(), rows.end());
    vit_.prefix += added;
    vit_.tokens += added;
  }

  Norm norm_of(const OnnxNode& node) {
    const OnnxAttribute* epsilon = node.attribute("epsilon");
    const std::int64_t axis = node.integer("axis", -1);
    walk_.require((axis == -1 || axis == 2) && node.inputs.size() >= 2, node, "a norm along the last axis");
    Norm norm;
    norm.epsilon = epsilon == nullptr ? 1e-5F : epsilon->f;
    const OnnxTensor* weight = walk_.constant(node.inputs[1]);
    walk_.require(weight != nullptr, node, "constant weights");
    norm.weight = walk_.vector_of(node, *weight, width());
    norm.bias.resize(width());
    if (node.inputs.size() > 2 && !node.inputs[2].empty()) {
      const OnnxTensor* bias = walk_.constant(node.inputs[2]);
      walk_.require(bias != nullptr, node, "a constant bias");
      norm.bias = walk_.vector_of(node, *bias, width());
    }
    norm.output = node.outputs.front();
    return norm;
  }

  // MatMul, and Add where there is a bias. `x` becomes what comes out.
  Linear linear_at(std::string& x, int inputs) {
    const OnnxNode& product = walk_.only(x, "MatMul");
    const OnnxTensor* weight =
        product.inputs.size() == 2 && product.inputs[0] == x ? walk_.constant(product.inputs[1]) : nullptr;
    walk_.require(weight != nullptr && weight->dims.size() == 2 && weight->dims[0] == inputs && weight->dims[1] > 0 &&
                      weight->dims[1] <= 1 << 20,
                  product, "constant weights [" + std::to_string(inputs) + ", outputs]");
    Linear linear;
    linear.inputs = inputs;
    linear.outputs = static_cast<int>(weight->dims[1]);
    const std::vector<float> given = weight->floats();
    walk_.require(!given.empty(), product, "weights in float32 or float16");
    const auto rows = static_cast<std::size_t>(linear.outputs);
    const auto columns = static_cast<std::size_t>(inputs);
    linear.weight.resize(given.size());
    constexpr std::size_t tile = 32;
    for (std::size_t i = 0; i < rows; i += tile) {
      for (std::size_t k = 0; k < columns; k += tile) {
        for (std::size_t row = i; row < std::min(i + tile, rows); ++row) {
          for (std::size_t column = k; column < std::min(k + tile, columns); ++column) {
            linear.weight[row * columns + column] = given[column * rows + row];
          }
        }
      }
    }
    linear.bias.resize(rows);
    x = product.outputs.front();
    if (walk_.next_is(x, "Add")) {
      const OnnxNode& add = *walk_.readers(x).front();
      if (walk_.constant(add.inputs.front()) != nullptr || walk_.constant(add.inputs.back()) != nullptr) {
        linear.bias = walk_.vector_of(add, walk_.other(add, x), rows);
        x = add.outputs.front();
      }
    }
    return linear;
  }

  static void fold(Linear& linear, const Norm& norm) {
    const auto columns = static_cast<std::size_t>(linear.inputs);
    for (std::size_t row = 0; row < linear.bias.size(); ++row) {
      double sum = 0;
      float* weight = &linear.weight[row * columns];
      for (std::size_t k = 0; k < columns; ++k) {
        sum += static_cast<double>(weight[k]) * norm.bias[k];
        weight[k] *= norm.weight[k];
      }
      linear.bias[row] += static_cast<float>(sum);
    }
  }

  static void scale_rows(Linear& linear, std::size_t first, std::size_t last, const float* by, std::size_t step) {
    const auto columns = static_cast<std::size_t>(linear.inputs);
    for (std::size_t row = first; row < last; ++row) {
      const float factor = by[(row - first) * step];
      std::for_each(linear.weight.begin() + static_cast<std::ptrdiff_t>(row * columns),
                    linear.weight.begin() + static_cast<std::ptrdiff_t>((row + 1) * columns),
                    [factor](float& value) { value *= factor; });
      linear.bias[row] *= factor;
    }
  }

  // A layer scale, where there is one, and the sum with the residual `x` or its one row. Gives the sum.
  std::string residual(const std::string& branch, Linear& linear, const std::string& x) {
    std::string value = branch;
    if (walk_.next_is(value, "Mul")) {
      const OnnxNode& scale = *walk_.readers(value).front();
      const std::vector<float> by = walk_.vector_of(scale, walk_.other(scale, value), width());
      scale_rows(linear, 0, width(), by.data(), 1);
      value = scale.outputs.front();
    }
    const OnnxNode& add = walk_.only(value, "Add");
    std::string beside = x;
    if (narrowed_now_ && !narrowed_before_) {
      const OnnxNode* cut = walk_.among(x, "Slice");
      walk_.require(cut != nullptr && slices(*cut, 1, vit_.token, vit_.token + 1), add,
                    "the same token of the residual");
      beside = cut->outputs.front();
    }
    walk_.require(add.inputs.size() == 2 && (add.inputs[0] == beside || add.inputs[1] == beside), add,
                  "a sum with the residual");
    narrowed_before_ = narrowed_now_;
    return add.outputs.front();
  }

  bool slices(const OnnxNode& node, std::int64_t axis, std::int64_t begin, std::int64_t end) const {
    return node.op == "Slice" && node.inputs.size() >= 4 && walk_.integers(node, 1) == Integers{begin} &&
           walk_.integers(node, 2) == Integers{end} && walk_.integers(node, 3) == Integers{axis} &&
           (node.inputs.size() < 5 || walk_.integers(node, 4) == Integers{1});
  }

  // The rows of queries, keys or values: [3, B, heads, tokens, d] cut along axis 0.
  std::string part(const std::string& all, std::int64_t index) {
    for (const OnnxNode* node : walk_.readers(all)) {
      if (slices(*node, 0, index, index + 1)) {
        const OnnxNode& squeeze = walk_.only(node->outputs.front(), "Squeeze");
        walk_.require(walk_.integers(squeeze, 1) == Integers{0}, squeeze, "axis 0 taken away");
        return squeeze.outputs.front();
      }
    }
    walk_.refuse(all, "queries, keys and values cut out of one product");
  }

  std::string block(const std::string& x, const OnnxNode& first_norm) {
    if (narrowed_now_) {
      walk_.refuse(first_norm, "the head, behind a block of one token");
    }
    Block block;
    const Norm norm = norm_of(first_norm);
    block.attention_epsilon = norm.epsilon;
    std::string value = norm.output;
    block.qkv = linear_at(value, vit_.width);
    fold(block.qkv, norm);
    value = attention(value, block.qkv);
    block.projection = linear_at(value, vit_.width);
    const std::string middle = residual(value, block.projection, x);

    const OnnxNode* second = walk_.among(middle, "LayerNormalization");
    if (second == nullptr) {
      walk_.refuse("nothing that normalises " + middle, "LayerNormalization before the MLP");
    }
    const Norm norm2 = norm_of(*second);
    block.mlp_epsilon = norm2.epsilon;
    value = norm2.output;
    block.up = linear_at(value, vit_.width);
    fold(block.up, norm2);
    walk_.require(vit_.hidden == 0 || vit_.hidden == block.up.outputs, *second, "MLPs of one width");
    vit_.hidden = block.up.outputs;
    value = gelu(value);
    block.down = linear_at(value, vit_.hidden);
    walk_.require(block.projection.outputs == vit_.width && block.down.outputs == vit_.width, *second,
                  "products of the residual's width");
    const std::string out = residual(value, block.down, middle);
    vit_.blocks.push_back(std::move(block));
    return out;
  }

  std::string attention(const std::string& product, Linear& qkv) {
    const OnnxNode& split = walk_.only(product, "Reshape");
    const Integers shape = walk_.integers(split, 1);
    walk_.require(shape.size() == 5 && shape[1] == vit_.tokens && shape[2] == 3 && shape[3] > 0 && shape[4] > 0 &&
                      shape[3] <= 1 << 12 && shape[4] <= 1 << 12 && shape[3] * shape[4] == vit_.width &&
                      qkv.outputs == 3 * vit_.width && (vit_.heads == 0 || vit_.heads == shape[3]),
                  split, "[-1, tokens, 3, heads, d] of the block's width");
    vit_.heads = static_cast<int>(shape[3]);
    vit_.head = static_cast<int>(shape[4]);
    const OnnxNode& turned = walk_.only(split.outputs.front(), "Transpose");
    const OnnxAttribute* order = turned.attribute("perm");
    walk_.require(order != nullptr && order->ints == Integers{2, 0, 3, 1, 4}, turned, "[2, 0, 3, 1, 4]");
    std::string q = part(turned.outputs.front(), 0);
    std::string k = part(turned.outputs.front(), 1);
    const std::string v = part(turned.outputs.front(), 2);
    if (walk_.next_is(q, "Slice")) {
      const OnnxNode& cut = *walk_.readers(q).front();
      const Integers at = walk_.integers(cut, 1);
      walk_.require(at.size() == 1 && at[0] >= 0 && at[0] < vit_.tokens && slices(cut, 2, at[0], at[0] + 1), cut,
                    "one token's queries");
      narrowed_now_ = true;
      vit_.token = static_cast<int>(at[0]);
      q = cut.outputs.front();
    }
    float factor = scaled(q);
    factor *= scaled(k);
    const OnnxNode& across = walk_.only(k, "Transpose");
    const OnnxAttribute* swapped = across.attribute("perm");
    walk_.require(swapped != nullptr && swapped->ints == Integers{0, 1, 3, 2}, across, "[0, 1, 3, 2]");
    k = across.outputs.front();
    factor *= scaled(k);
    const OnnxNode& scores = walk_.only(q, "MatMul");
    walk_.require(scores.inputs == std::vector<std::string>{q, k}, scores, "queries times keys");
    std::string value = scores.outputs.front();
    factor *= scaled(value);
    const OnnxNode& softmax = walk_.only(value, "Softmax");
    const std::int64_t axis = softmax.integer("axis", -1);
    walk_.require(axis == -1 || axis == 3, softmax, "probabilities along the keys");
    const OnnxNode& weighted = walk_.only(softmax.outputs.front(), "MatMul");
    walk_.require(weighted.inputs == std::vector<std::string>{softmax.outputs.front(), v}, weighted,
                  "probabilities times values");
    const OnnxNode& back = walk_.only(weighted.outputs.front(), "Transpose");
    const OnnxAttribute* perm = back.attribute("perm");
    walk_.require(perm != nullptr && perm->ints == Integers{0, 2, 1, 3}, back, "[0, 2, 1, 3]");
    const OnnxNode& joined = walk_.only(back.outputs.front(), "Reshape");
    walk_.require(walk_.integers(joined, 1) == Integers{-1, narrowed_now_ ? 1 : vit_.tokens, vit_.width}, joined,
                  "[-1, tokens, width]");
    const float exponent = factor * 1.4426950408889634F;  // powers of 2 instead of e
    scale_rows(qkv, 0, width(), &exponent, 0);
    return joined.outputs.front();
  }

  // A product with one number, where there is one.
  float scaled(std::string& value) {
    if (!walk_.next_is(value, "Mul")) {
      return 1;
    }
    const OnnxNode& node = *walk_.readers(value).front();
    const float factor = walk_.scalar(node, value);
    value = node.outputs.front();
    return factor;
  }

  // x (erf(x / sqrt 2) + 1) / 2
  std::string gelu(const std::string& x) {
    const OnnxNode* by = walk_.among(x, "Div");
    if (by == nullptr) {
      const auto all = walk_.readers(x);
      walk_.refuse(all.empty() ? "nothing reads " + x : shown(*all.front()), "GELU, by erf");
    }
    walk_.require(by->inputs.front() == x && std::fabs(walk_.scalar(*by, x) - 1.41421356F) < 1e-6F, *by, "x / sqrt(2)");
    const OnnxNode& erf = walk_.only(by->outputs.front(), "Erf");
    const OnnxNode& add = walk_.only(erf.outputs.front(), "Add");
    walk_.require(walk_.scalar(add, erf.outputs.front()) == 1, add, "erf + 1");
    const OnnxNode& times = walk_.only(add.outputs.front(), "Mul");
    walk_.require(std::count(times.inputs.begin(), times.inputs.end(), x) == 1, times, "x times (erf + 1)");
    const OnnxNode& half = walk_.only(times.outputs.front(), "Mul");
    walk_.require(walk_.scalar(half, times.outputs.front()) == 0.5F, half, "half of it");
    return half.outputs.front();
  }

  void end(const std::string& x) {
    std::string value = x;
    Norm norm;
    bool normed = false;
    const auto take_norm = [&] {
      if (!normed && walk_.next_is(value, "LayerNormalization")) {
        norm = norm_of(*walk_.readers(value).front());
        value = norm.output;
        normed = true;
      }
    };
    take_norm();
    if (walk_.next_is(value, "Gather")) {
      const OnnxNode& choice = *walk_.readers(value).front();
      const Integers token = walk_.integers(choice, 1);
      walk_.require(choice.integer("axis", 0) == 1 && token.size() == 1 && token[0] >= 0 &&
                        token[0] < (narrowed_now_ ? 1 : vit_.tokens),
                    choice, "one token");
      if (!narrowed_now_) {
        vit_.token = static_cast<int>(token[0]);
      }
      value = choice.outputs.front();
    } else {
      if (walk_.next_is(value, "Slice")) {
        const OnnxNode& cut = *walk_.readers(value).front();
        const Integers from = walk_.integers(cut, 1);
        const Integers to = walk_.integers(cut, 2);
        walk_.require(from.size() == 1 && to.size() == 1 && from[0] >= 0 && from[0] < vit_.tokens &&
                          to[0] >= vit_.tokens && slices(cut, 1, from[0], to[0]),
                      cut, "the tokens from one on");
        vit_.token = static_cast<int>(from[0]);
        value = cut.outputs.front();
      }
      const OnnxNode& mean = walk_.only(value, "ReduceMean");
      walk_.require(!narrowed_now_ && mean.integer("keepdims", 1) == 0 && walk_.integers(mean, 1) == Integers{1}, mean,
                    "the mean over tokens");
      vit_.mean = true;
      vit_.norm_before_mean = normed;
      value = mean.outputs.front();
    }
    take_norm();
    const OnnxNode& gemm = walk_.only(value, "Gemm");
    const OnnxTensor* weight = gemm.inputs.size() >= 2 ? walk_.constant(gemm.inputs[1]) : nullptr;
    const OnnxAttribute* alpha = gemm.attribute("alpha");
    const OnnxAttribute* beta = gemm.attribute("beta");
    vit_.classes = static_cast<int>(spec_->labels.size());
    walk_.require(normed && weight != nullptr && weight->dims == Integers{vit_.classes, vit_.width} &&
                      gemm.integer("transB", 0) == 1 && gemm.integer("transA", 0) == 0 &&
                      (alpha == nullptr || alpha->f == 1) && (beta == nullptr || beta->f == 1) &&
                      gemm.outputs.front() == spec_->output.name,
                  gemm, "a norm, then the logits' product [classes, width]");
    vit_.classifier.outputs = vit_.classes;
    vit_.classifier.inputs = vit_.width;
    vit_.classifier.weight = weight->floats();
    vit_.classifier.bias.resize(static_cast<std::size_t>(vit_.classes));
    if (gemm.inputs.size() > 2) {
      const OnnxTensor* bias = walk_.constant(gemm.inputs[2]);
      walk_.require(bias != nullptr, gemm, "a constant bias");
      vit_.classifier.bias = walk_.vector_of(gemm, *bias, vit_.classifier.bias.size());
    }
    walk_.require(!vit_.classifier.weight.empty(), gemm, "weights in float32 or float16");
    fold(vit_.classifier, norm);
    vit_.epsilon = norm.epsilon;
  }

  Walk walk_;
  const OnnxGraph* graph_;
  const ModelSpec* spec_;
  Vit vit_;
  bool narrowed_now_ = false;     // the block computes one token
  bool narrowed_before_ = false;  // and so does what comes in
};

}  // namespace

Vit vit_from_graph(const OnnxGraph& graph, const ModelSpec& spec, const std::string& path) {
  return Finder(graph, spec, path).find();
}

}  // namespace vitrify::engines
