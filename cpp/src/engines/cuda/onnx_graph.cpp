// The wire format is spec/onnx_metadata.cpp's; this reads a whole file, whose weights it leaves where they lie.
#include "onnx_graph.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "vitrify/error.hpp"

namespace vitrify::engines {
namespace {

constexpr std::uintmax_t kLargestFile = std::uintmax_t{1} << 31;
constexpr std::size_t kMostDims = 8;
constexpr std::size_t kMostNodes = 1 << 20;

struct Damage {
  std::string what;
};

// A message, or a field's payload.
class Wire {
 public:
  Wire(const std::uint8_t* begin, std::size_t bytes) : at_(begin), end_(begin + bytes) {}

  // Steps to the next field; false at the end. The payload is then in `number` or in `payload`.
  bool next() {
    if (at_ == end_) {
      return false;
    }
    const std::uint64_t key = varint();
    field = key >> 3;
    type = static_cast<int>(key & 7);
    std::size_t bytes = 0;
    switch (type) {
      case 0:
        number = varint();
        return true;
      case 1:
        bytes = 8;
        break;
      case 2: {
        const std::uint64_t length = varint();
        if (length > static_cast<std::uint64_t>(end_ - at_)) {
          throw Damage{"a field of " + std::to_string(length) + " bytes, of which " + std::to_string(end_ - at_) +
                       " are there"};
        }
        bytes = static_cast<std::size_t>(length);
        break;
      }
      case 5:
        bytes = 4;
        break;
      default:
        throw Damage{"a field of wire type " + std::to_string(type)};
    }
    if (bytes > static_cast<std::size_t>(end_ - at_)) {
      throw Damage{"the file ends inside a field"};
    }
    payload = at_;
    payload_bytes = bytes;
    at_ += bytes;
    return true;
  }

  [[nodiscard]] Wire message() const {
    require(2);
    return {payload, payload_bytes};
  }
  [[nodiscard]] std::string text() const {
    require(2);
    return {reinterpret_cast<const char*>(payload), payload_bytes};
  }
  [[nodiscard]] std::int64_t integer() const {
    require(0);
    return static_cast<std::int64_t>(number);
  }
  [[nodiscard]] float real() const {
    require(5);
    float value = 0;
    std::memcpy(&value, payload, sizeof(value));
    return value;
  }
  // A repeated integer field, packed or not.
  void integers(std::vector<std::int64_t>& to, std::size_t most) const {
    if (type == 0) {
      to.push_back(static_cast<std::int64_t>(number));
    } else {
      for (Wire packed = message(); packed.at_ != packed.end_;) {
        to.push_back(static_cast<std::int64_t>(packed.varint()));
        if (to.size() > most) {
          break;
        }
      }
    }
    if (to.size() > most) {
      throw Damage{"more than " + std::to_string(most) + " numbers in a list"};
    }
  }

  std::uint64_t field = 0;
  int type = 0;
  std::uint64_t number = 0;
  const std::uint8_t* payload = nullptr;
  std::size_t payload_bytes = 0;

 private:
  void require(int expected) const {
    if (type != expected) {
      throw Damage{"field " + std::to_string(field) + " has wire type " + std::to_string(type) + ", not " +
                   std::to_string(expected)};
    }
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (at_ == end_) {
        throw Damage{"the file ends inside a number"};
      }
      const std::uint8_t byte = *at_++;
      value |= shift < 64 ? static_cast<std::uint64_t>(byte & 0x7F) << shift : 0;
      if (byte < 0x80) {
        return value;
      }
    }
    throw Damage{"a number of more than ten bytes"};
  }

  const std::uint8_t* at_;
  const std::uint8_t* end_;
};

std::size_t element_bytes(std::int64_t type) {
  switch (type) {
    case 1:
      return 4;
    case 7:
      return 8;
    case 10:
      return 2;
    default:
      return 0;
  }
}

OnnxTensor tensor_of(Wire wire) {
  OnnxTensor tensor;
  std::size_t bytes = 0;
  while (wire.next()) {
    switch (wire.field) {
      case 1:
        wire.integers(tensor.dims, kMostDims);
        break;
      case 2:
        tensor.type = wire.integer();
        break;
      case 4:                               // float_data, packed: little-endian as raw_data is
      case 9:                               // raw_data
        static_cast<void>(wire.message());  // refuses a number in its place
        tensor.data = wire.payload;
        bytes = wire.payload_bytes;
        break;
      case 8:
        tensor.name = wire.text();
        break;
      case 13:  // external_data
        throw Damage{"weights in another file"};
      default:
        break;
    }
  }
  tensor.count = 1;
  for (const std::int64_t dim : tensor.dims) {
    if (dim < 0 || (dim > 0 && tensor.count > kLargestFile / static_cast<std::uint64_t>(dim))) {
      throw Damage{"the constant " + tensor.name + " has an axis of " + std::to_string(dim)};
    }
    tensor.count *= static_cast<std::size_t>(dim);
  }
  const std::size_t each = element_bytes(tensor.type);
  if (each != 0 && bytes != tensor.count * each) {
    throw Damage{"the constant " + tensor.name + " has " + std::to_string(bytes) + " bytes, not " +
                 std::to_string(tensor.count * each)};
  }
  if (each == 0) {
    tensor.count = 0;  // of a type that no ViT needs: whoever reads it finds nothing
  }
  return tensor;
}

OnnxAttribute attribute_of(Wire wire) {
  OnnxAttribute attribute;
  while (wire.next()) {
    switch (wire.field) {
      case 1:
        attribute.name = wire.text();
        break;
      case 2:
        attribute.f = wire.real();
        break;
      case 3:
        attribute.i = wire.integer();
        break;
      case 4:
        attribute.s = wire.text();
        break;
      case 8:
        wire.integers(attribute.ints, 1 << 10);
        break;
      default:
        break;
    }
  }
  return attribute;
}

OnnxNode node_of(Wire wire) {
  OnnxNode node;
  while (wire.next()) {
    switch (wire.field) {
      case 1:
        node.inputs.push_back(wire.text());
        break;
      case 2:
        node.outputs.push_back(wire.text());
        break;
      case 3:
        node.name = wire.text();
        break;
      case 4:
        node.op = wire.text();
        break;
      case 5:
        node.attributes.push_back(attribute_of(wire.message()));
        break;
      case 7:
        node.domain = wire.text();
        break;
      default:
        break;
    }
  }
  return node;
}

std::string name_of_value(Wire wire) {
  std::string name;
  while (wire.next()) {
    if (wire.field == 1) {
      name = wire.text();
    }
  }
  return name;
}

void read_graph(Wire wire, OnnxGraph& graph) {
  while (wire.next()) {
    switch (wire.field) {
      case 1:
        graph.nodes.push_back(node_of(wire.message()));
        if (graph.nodes.size() > kMostNodes) {
          throw Damage{"more than " + std::to_string(kMostNodes) + " nodes"};
        }
        break;
      case 5: {
        OnnxTensor tensor = tensor_of(wire.message());
        std::string name = tensor.name;
        graph.constants.insert_or_assign(std::move(name), std::move(tensor));
        break;
      }
      case 11:
        graph.inputs.push_back(name_of_value(wire.message()));
        break;
      case 12:
        graph.outputs.push_back(name_of_value(wire.message()));
        break;
      default:
        break;
    }
  }
}

float float_of_half(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
  const std::uint32_t exponent = bits >> 10 & 0x1FU;
  const std::uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = sign | (exponent == 31 ? 0xFFU : exponent + 112) << 23 | mantissa << 13;
  float value = 0;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

}  // namespace

std::vector<float> OnnxTensor::floats() const {
  std::vector<float> values(type == 1 || type == 10 ? count : 0);
  if (type == 1 && count > 0) {
    std::memcpy(values.data(), data, count * sizeof(float));
  }
  for (std::size_t i = 0; type == 10 && i < count; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, data + 2 * i, sizeof(bits));
    values[i] = float_of_half(bits);
  }
  return values;
}

std::vector<std::int64_t> OnnxTensor::integers() const {
  std::vector<std::int64_t> values(type == 7 ? count : 0);
  if (!values.empty()) {
    std::memcpy(values.data(), data, count * sizeof(std::int64_t));
  }
  return values;
}

const OnnxAttribute* OnnxNode::attribute(std::string_view wanted) const {
  const auto found =
      std::find_if(attributes.begin(), attributes.end(), [&](const OnnxAttribute& one) { return one.name == wanted; });
  return found == attributes.end() ? nullptr : &*found;
}

std::int64_t OnnxNode::integer(std::string_view wanted, std::int64_t otherwise) const {
  const OnnxAttribute* found = attribute(wanted);
  return found == nullptr ? otherwise : found->i;
}

OnnxGraph read_onnx_graph(const std::string& path) {
  OnnxGraph graph;
  try {
    std::error_code unknown;
    const std::uintmax_t size = std::filesystem::file_size(path, unknown);
    if (unknown || size > kLargestFile) {
      throw Damage{unknown ? unknown.message() : std::to_string(size) + " bytes"};
    }
    const auto bytes = static_cast<std::size_t>(size);
    graph.file.reset(new std::uint8_t[bytes > 0 ? bytes : 1]);  // not zeroed first: it may be a gigabyte
    std::ifstream stream(path, std::ios::binary);
    if (!stream.read(reinterpret_cast<char*>(graph.file.get()), static_cast<std::streamsize>(bytes))) {
      throw Damage{"it cannot be read to its end"};
    }
    bool has_graph = false;
    for (Wire wire(graph.file.get(), bytes); wire.next();) {
      if (wire.field == 7) {
        has_graph = true;
        read_graph(wire.message(), graph);
      }
    }
    if (!has_graph) {
      throw Damage{"no graph in it"};
    }
  } catch (const Damage& damage) {
    throw ArtifactError(path + " is no ONNX model, or it is damaged", damage.what, {}, "copy or export it again");
  }
  return graph;
}

}  // namespace vitrify::engines
