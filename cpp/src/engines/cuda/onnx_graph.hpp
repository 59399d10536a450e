// An ONNX file's graph: its nodes and its constants, read without protobuf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace vitrify::engines {

struct OnnxTensor {
  std::string name;
  std::int64_t type = 0;  // TensorProto.DataType: 1 float32, 7 int64, 10 float16
  std::vector<std::int64_t> dims;
  const std::uint8_t* data = nullptr;  // little-endian, [count]
  std::size_t count = 0;

  // Throws std::bad_alloc alone; types other than float32, float16 and int64 give an empty vector.
  [[nodiscard]] std::vector<float> floats() const;
  [[nodiscard]] std::vector<std::int64_t> integers() const;
};

struct OnnxAttribute {
  std::string name;
  float f = 0;
  std::int64_t i = 0;
  std::string s;
  std::vector<std::int64_t> ints;
};

struct OnnxNode {
  std::string name;
  std::string op;
  std::string domain;
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
  std::vector<OnnxAttribute> attributes;

  [[nodiscard]] const OnnxAttribute* attribute(std::string_view wanted) const;
  [[nodiscard]] std::int64_t integer(std::string_view wanted, std::int64_t otherwise) const;
};

struct OnnxGraph {
  std::unique_ptr<std::uint8_t[]> file;  // the tensors' data
  std::vector<OnnxNode> nodes;
  std::map<std::string, OnnxTensor> constants;
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
};

// Reads a file of at most 2 GiB, which is protobuf's own limit. Every length in it is held to what is there. Throws
// ArtifactError for a damaged file and for weights outside of it.
[[nodiscard]] OnnxGraph read_onnx_graph(const std::string& path);

}  // namespace vitrify::engines
