// The messages and field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, the wire format
// that of https://protobuf.dev/programming-guides/encoding/.
#include "onnx_form.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>

namespace vitrify::spec {
namespace {

using Text = std::string_view;

// ONNX's own operators on tensors that a classifier may consist of. None has a subgraph, none reads a file, none is
// random. Sorted, for it is searched.
constexpr std::array<Text, 124> kOperators{"Abs",
                                           "Add",
                                           "And",
                                           "ArgMax",
                                           "ArgMin",
                                           "Attention",
                                           "AveragePool",
                                           "BatchNormalization",
                                           "Cast",
                                           "CastLike",
                                           "Ceil",
                                           "Celu",
                                           "Clip",
                                           "Concat",
                                           "Constant",
                                           "ConstantOfShape",
                                           "Conv",
                                           "ConvInteger",
                                           "ConvTranspose",
                                           "Cos",
                                           "CumSum",
                                           "DepthToSpace",
                                           "DequantizeLinear",
                                           "Div",
                                           "DynamicQuantizeLinear",
                                           "Einsum",
                                           "Elu",
                                           "Equal",
                                           "Erf",
                                           "Exp",
                                           "Expand",
                                           "EyeLike",
                                           "Flatten",
                                           "Floor",
                                           "Gather",
                                           "GatherElements",
                                           "GatherND",
                                           "Gelu",
                                           "Gemm",
                                           "GlobalAveragePool",
                                           "GlobalMaxPool",
                                           "Greater",
                                           "GreaterOrEqual",
                                           "GridSample",
                                           "GroupNormalization",
                                           "HardSigmoid",
                                           "HardSwish",
                                           "Identity",
                                           "InstanceNormalization",
                                           "IsInf",
                                           "IsNaN",
                                           "LRN",
                                           "LayerNormalization",
                                           "LeakyRelu",
                                           "Less",
                                           "LessOrEqual",
                                           "Log",
                                           "LogSoftmax",
                                           "LpNormalization",
                                           "LpPool",
                                           "MatMul",
                                           "MatMulInteger",
                                           "Max",
                                           "MaxPool",
                                           "Mean",
                                           "Min",
                                           "Mish",
                                           "Mod",
                                           "Mul",
                                           "Neg",
                                           "NonZero",
                                           "Not",
                                           "OneHot",
                                           "Or",
                                           "PRelu",
                                           "Pad",
                                           "Pow",
                                           "QLinearConv",
                                           "QLinearMatMul",
                                           "QuantizeLinear",
                                           "RMSNormalization",
                                           "Range",
                                           "Reciprocal",
                                           "ReduceL1",
                                           "ReduceL2",
                                           "ReduceLogSumExp",
                                           "ReduceMax",
                                           "ReduceMean",
                                           "ReduceMin",
                                           "ReduceProd",
                                           "ReduceSum",
                                           "ReduceSumSquare",
                                           "Relu",
                                           "Reshape",
                                           "Resize",
                                           "RotaryEmbedding",
                                           "Round",
                                           "ScatterElements",
                                           "ScatterND",
                                           "Selu",
                                           "Shape",
                                           "Sigmoid",
                                           "Sign",
                                           "Sin",
                                           "Size",
                                           "Slice",
                                           "Softmax",
                                           "Softplus",
                                           "Softsign",
                                           "SpaceToDepth",
                                           "Split",
                                           "Sqrt",
                                           "Squeeze",
                                           "Sub",
                                           "Sum",
                                           "Swish",
                                           "Tan",
                                           "Tanh",
                                           "Tile",
                                           "TopK",
                                           "Transpose",
                                           "Trilu",
                                           "Unsqueeze",
                                           "Where"};

struct Fault {
  OnnxFault what;
};

[[noreturn]] void refuse(std::string got, std::string expected) { throw Fault{{std::move(got), std::move(expected)}}; }

// For a message: what is not plain ASCII would reach the terminal.
std::string shown(Text text) {
  std::string safe(text.substr(0, 60));
  std::replace_if(safe.begin(), safe.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return "'" + safe + (text.size() > 60 ? "…'" : "'");
}

struct Field {
  std::uint64_t number = 0;
  unsigned wire = 0;
  std::uint64_t value = 0;  // of a varint
  Text payload;             // of anything else
};

class Message {
 public:
  explicit Message(Text bytes) : rest_(bytes) {}

  // The next field, or false where that was all.
  bool next(Field& field) {
    if (rest_.empty()) {
      return false;
    }
    const std::uint64_t key = varint();
    field = {key >> 3, static_cast<unsigned>(key & 7), 0, {}};
    switch (field.wire) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.payload = take(8);
        break;
      case 2:
        field.payload = take(varint());
        break;
      case 5:
        field.payload = take(4);
        break;
      default:
        refuse("a field of wire type " + std::to_string(field.wire), "a whole, undamaged ONNX file");
    }
    if (field.number == 0) {
      refuse("a field without a number", "a whole, undamaged ONNX file");
    }
    return true;
  }

  bool done() const { return rest_.empty(); }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (rest_.empty()) {
        refuse("a file that ends inside a number", "a whole, undamaged ONNX file");
      }
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= shift < 64 ? static_cast<std::uint64_t>(byte & 0x7F) << shift : 0;
      if (byte < 0x80) {
        return value;
      }
    }
    refuse("a number of more than ten bytes", "a whole, undamaged ONNX file");
  }

 private:
  Text take(std::uint64_t bytes) {
    if (bytes > rest_.size()) {
      refuse("a field of " + std::to_string(bytes) + " bytes where " + std::to_string(rest_.size()) + " are left",
             "a whole, undamaged ONNX file");
    }
    const Text taken = rest_.substr(0, static_cast<std::size_t>(bytes));
    rest_.remove_prefix(static_cast<std::size_t>(bytes));
    return taken;
  }

  Text rest_;
};

// What a submessage, a string or bytes hold; any other wire type there is damage.
Text payload(const Field& field) {
  if (field.wire != 2) {
    refuse("field " + std::to_string(field.number) + " of wire type " + std::to_string(field.wire),
           "a whole, undamaged ONNX file");
  }
  return field.payload;
}

Text name(const Field& field) {
  const Text text = payload(field);
  if (text.size() > kMostNameBytes) {
    refuse("a name of " + std::to_string(text.size()) + " bytes", "at most " + std::to_string(kMostNameBytes));
  }
  return text;
}

// TensorProto's element types by their number, in bits; 0 for strings and what is not known.
std::uint64_t bits_of(std::uint64_t type) {
  constexpr std::array<std::uint8_t, 25> bits{0,  32, 8,   8,  16, 16, 32, 64, 0, 8, 16, 64, 32,
                                              64, 64, 128, 16, 8,  8,  8,  8,  4, 4, 4,  8};
  return type < bits.size() ? bits[static_cast<std::size_t>(type)] : 0;
}

class Tensor {
 public:
  explicit Tensor(Text bytes) {
    Message message(bytes);
    for (Field field; message.next(field);) {
      add(field);
    }
    if (bits_of(type_) == 0) {
      refuse("a tensor of element type " + std::to_string(type_), "numbers");
    }
    // No tensor is larger than its data, so that a small file asks for no large memory. A varint of one byte may hold
    // an element of up to eight.
    const std::uint64_t least = typed_ ? elements_ : (elements_ * std::min<std::uint64_t>(bits_of(type_), 64) + 7) / 8;
    if (least > data_ * (bits_of(type_) == 4 ? 2 : 1)) {
      refuse("a tensor of " + std::to_string(elements_) + " elements with " + std::to_string(data_) + " bytes of data",
             "its data inside the file");
    }
  }

 private:
  void add(const Field& field) {
    switch (field.number) {
      case 1:  // dims, packed or not
        if (field.wire == 2) {
          for (Message dims(field.payload); !dims.done();) {
            axis(dims.varint());
          }
        } else {
          axis(field.value);
        }
        break;
      case 2:
        type_ = field.value;
        break;
      case 4:
      case 5:
      case 7:
      case 10:
      case 11:  // float, int32, int64, double, uint64 data
        typed_ = true;
        data_ += field.wire == 0 ? 1 : field.payload.size();
        break;
      case 8:
        name(field);
        break;
      case 9:
        data_ += payload(field).size();
        break;
      case 12:
      case 16:  // documentation, metadata
        break;
      case 13:
        refuse("a tensor whose data is outside the file", "all weights inside the file");
      case 14:
        if (field.value != 0) {
          refuse("a tensor whose data is outside the file", "all weights inside the file");
        }
        break;
      default:
        refuse("field " + std::to_string(field.number) + " of a tensor", "a dense tensor of numbers");
    }
  }

  void axis(std::uint64_t length) {
    if (++axes_ > kMostAxes || length > std::numeric_limits<std::uint32_t>::max() ||
        (length != 0 && elements_ > (std::uint64_t{1} << 40) / length)) {
      refuse("a tensor of " + std::to_string(axes_) + " axes, one of " + std::to_string(length),
             "at most " + std::to_string(kMostAxes) + " axes and 2^40 elements");
    }
    elements_ *= length;
  }

  std::uint64_t type_ = 0;
  std::uint64_t elements_ = 1;
  std::uint64_t data_ = 0;
  std::size_t axes_ = 0;
  bool typed_ = false;
};

void check_attribute(Text bytes) {
  Message message(bytes);
  for (Field field; message.next(field);) {
    switch (field.number) {
      case 1:
        name(field);
        break;
      case 5:
      case 10:
        Tensor(payload(field));
        break;
      case 2:
      case 3:
      case 4:
      case 7:
      case 8:
      case 9:
      case 13:
      case 20:  // numbers, strings, documentation, kind
        break;
      case 6:
      case 11:
        refuse("a graph inside a graph", "one flat graph, without control flow");
      default:
        refuse("field " + std::to_string(field.number) + " of an attribute", "numbers, strings and dense tensors");
    }
  }
}

void check_node(Text bytes) {
  Message message(bytes);
  Text kind;
  for (Field field; message.next(field);) {
    switch (field.number) {
      case 1:
      case 2:
      case 3:
        name(field);
        break;
      case 4:
        kind = name(field);
        break;
      case 5:
        check_attribute(payload(field));
        break;
      case 6:
      case 9:  // documentation, metadata
        break;
      case 7:
        if (const Text domain = name(field); !domain.empty() && domain != "ai.onnx") {
          refuse("an operator of the domain " + shown(domain), "ONNX's own operators");
        }
        break;
      case 8:
        if (!name(field).empty()) {
          refuse("an overloaded operator", "ONNX's own operators");
        }
        break;
      default:
        refuse("field " + std::to_string(field.number) + " of a node", "a node");
    }
  }
  if (!std::binary_search(kOperators.begin(), kOperators.end(), kind)) {
    refuse("the operator " + shown(kind), "operators on tensors that a classifier consists of");
  }
}

void check_graph(Text bytes) {
  Message message(bytes);
  std::size_t nodes = 0;
  std::size_t tensors = 0;
  for (Field field; message.next(field);) {
    switch (field.number) {
      case 1:
        if (++nodes > kMostNodes) {
          refuse("more than " + std::to_string(kMostNodes) + " nodes", "at most as many");
        }
        check_node(payload(field));
        break;
      case 5:
        if (++tensors > kMostTensors) {
          refuse("more than " + std::to_string(kMostTensors) + " initializers", "at most as many");
        }
        Tensor(payload(field));
        break;
      case 2:
      case 10:
      case 11:
      case 12:
      case 13:
      case 14:
      case 16:  // names, values, documentation
        break;
      default:
        refuse("field " + std::to_string(field.number) + " of a graph", "nodes and dense initializers");
    }
  }
}

void check_model(Text bytes) {
  Message message(bytes);
  bool has_graph = false;
  for (Field field; message.next(field);) {
    switch (field.number) {
      case 7:
        if (has_graph) {  // a parser would merge the two
          refuse("a second graph", "one graph");
        }
        has_graph = true;
        check_graph(payload(field));
        break;
      case 14:
        if (payload(field).size() > kMostMetadataBytes) {
          refuse("a metadata entry of " + std::to_string(field.payload.size()) + " bytes",
                 "at most " + std::to_string(kMostMetadataBytes));
        }
        break;
      case 25:
        refuse("a function", "nodes alone, without functions");
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
      case 6:
      case 8:  // versions, producer, documentation, operator sets
        break;
      default:
        refuse("field " + std::to_string(field.number) + " of a model", "a graph with metadata");
    }
  }
  if (!has_graph) {
    refuse("no graph", "an ONNX model");
  }
}

}  // namespace

std::optional<OnnxFault> onnx_fault(const std::uint8_t* data, std::size_t size) {
  try {
    check_model(Text(reinterpret_cast<const char*>(data), size));
  } catch (const Fault& fault) {
    return fault.what;
  }
  return std::nullopt;
}

}  // namespace vitrify::spec
