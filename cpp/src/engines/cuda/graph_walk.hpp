// From node to node through an ONNX graph.
#pragma once

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "onnx_graph.hpp"
#include "vitrify/error.hpp"

namespace vitrify::engines {

using Integers = std::vector<std::int64_t>;

inline std::string shown(const OnnxNode& node) {
  return node.op + " '" + (node.name.empty() ? node.outputs.empty() ? "" : node.outputs.front() : node.name) + "'";
}

// Who reads which value of a graph, and what a node has to be: what does not hold is refused with that node.
class Walk {
 public:
  Walk(const OnnxGraph& graph, std::string path) : graph_(&graph), path_(std::move(path)) {
    for (const OnnxNode& node : graph.nodes) {
      for (const std::string& input : node.inputs) {
        auto& readers = readers_[input];
        if (readers.empty() || readers.back() != &node) {
          readers.push_back(&node);
        }
      }
    }
  }

  [[noreturn]] void refuse(const std::string& got, const std::string& expected) const {
    throw ArtifactError("the cuda engine does not compute the graph of " + path_, got, expected,
                        "run it with another engine");
  }
  [[noreturn]] void refuse(const OnnxNode& node, const std::string& expected) const { refuse(shown(node), expected); }

  // Readers of a value, without nodes that only ask for its shape.
  [[nodiscard]] std::vector<const OnnxNode*> readers(const std::string& value) const {
    std::vector<const OnnxNode*> found;
    const auto all = readers_.find(value);
    if (all != readers_.end()) {
      std::copy_if(all->second.begin(), all->second.end(), std::back_inserter(found),
                   [](const OnnxNode* node) { return node->op != "Shape"; });
    }
    return found;
  }

  // The one reader of a value, which has to be `op`.
  const OnnxNode& only(const std::string& value, const std::string& op) const {
    const auto found = readers(value);
    if (found.size() != 1 || found.front()->op != op || !found.front()->domain.empty()) {
      refuse(found.empty() ? "nothing reads " + value : shown(*found.front()), op + " alone behind " + value);
    }
    return checked(*found.front());
  }

  // Among several readers, the one that is `op`; null where there is none.
  const OnnxNode* among(const std::string& value, const std::string& op) const {
    const OnnxNode* one = nullptr;
    for (const OnnxNode* node : readers(value)) {
      if (node->op == op) {
        if (one != nullptr) {
          refuse(*node, "one " + op + " behind " + value);
        }
        one = &checked(*node);
      }
    }
    return one;
  }

  [[nodiscard]] bool next_is(const std::string& value, const std::string& op) const {
    const auto found = readers(value);
    return found.size() == 1 && found.front()->op == op;
  }

  const OnnxTensor* constant(const std::string& name) const {
    const auto found = graph_->constants.find(name);
    return found == graph_->constants.end() ? nullptr : &found->second;
  }

  // The input of a node that is constant, of a node of two inputs.
  const OnnxTensor& other(const OnnxNode& node, const std::string& value) const {
    if (node.inputs.size() == 2) {
      const OnnxTensor* found = constant(node.inputs[node.inputs[0] == value ? 1 : 0]);
      if (found != nullptr) {
        return *found;
      }
    }
    refuse(node, "a constant beside " + value);
  }

  std::vector<float> vector_of(const OnnxNode& node, const OnnxTensor& tensor, std::size_t size) const {
    std::vector<float> values = tensor.floats();
    if (values.size() != size || (!tensor.dims.empty() && static_cast<std::size_t>(tensor.dims.back()) != size)) {
      refuse(node, std::to_string(size) + " floats in " + tensor.name);
    }
    return values;
  }

  float scalar(const OnnxNode& node, const std::string& value) const {
    const std::vector<float> found = other(node, value).floats();
    if (found.size() != 1) {
      refuse(node, "one number beside " + value);
    }
    return found.front();
  }

  Integers integers(const OnnxNode& node, std::size_t input) const {
    const OnnxTensor* found = input < node.inputs.size() ? constant(node.inputs[input]) : nullptr;
    if (found == nullptr || found->type != 7) {
      refuse(node, "constant integers as input " + std::to_string(input));
    }
    return found->integers();
  }

  void require(bool holds, const OnnxNode& node, const std::string& expected) const {
    if (!holds) {
      refuse(node, expected);
    }
  }

 private:
  const OnnxNode& checked(const OnnxNode& node) const {
    if (node.outputs.empty() || node.outputs.front().empty()) {
      refuse(node, "an output");
    }
    return node;
  }

  const OnnxGraph* graph_;
  std::string path_;
  std::map<std::string, std::vector<const OnnxNode*>> readers_;
};

}  // namespace vitrify::engines
