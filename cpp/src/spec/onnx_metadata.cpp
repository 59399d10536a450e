// Reads an ONNX file's metadata without protobuf: a few reads, whatever the size of the weights.
//
// A ModelProto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) has its graph in field 7 and metadata_props in
// field 14, each a StringStringEntryProto of key (1) and value (2);
// https://protobuf.dev/programming-guides/encoding/ is the whole of the wire format.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "storage.hpp"

namespace vitrify {
namespace {

constexpr std::uint64_t kGraph = 7;
constexpr std::uint64_t kMetadataProps = 14;

struct Damage {
  std::string what;
};

struct Field {
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;  // of the payload, at which the stream stands
};

class WireReader {
 public:
  WireReader(std::istream& stream, std::uint64_t size) : stream_(&stream), size_(size) {}

  // The next field with a payload of [position, end), or nothing where that is all. The caller consumes the payload.
  std::optional<Field> next(std::uint64_t end) {
    while (at_ < end) {
      const std::uint64_t key = varint();
      Field field{key >> 3, 0};
      switch (key & 7) {
        case 0:
          static_cast<void>(varint());
          if (field.number == 0) {
            break;  // no field has this number: refused below
          }
          continue;
        case 1:
          field.bytes = 8;
          break;
        case 2:
          field.bytes = varint();
          break;
        case 5:
          field.bytes = 4;
          break;
        default:
          throw Damage{"a field of wire type " + std::to_string(key & 7) + " at byte " + std::to_string(at_)};
      }
      if (field.number == 0 || at_ > end || field.bytes > end - at_) {
        throw Damage{"field " + std::to_string(field.number) + " of " + std::to_string(field.bytes) +
                     " bytes does not fit at byte " + std::to_string(at_) + " of " + std::to_string(end)};
      }
      return field;
    }
    return std::nullopt;
  }

  std::string read(std::uint64_t bytes) {
    std::string text(static_cast<std::size_t>(bytes), '\0');
    stream_->read(text.data(), static_cast<std::streamsize>(bytes));
    if (!*stream_) {
      throw Damage{"the file ends inside a field"};
    }
    at_ += bytes;
    return text;
  }

  void skip(std::uint64_t bytes) {
    at_ += bytes;
    stream_->seekg(static_cast<std::streamoff>(at_));
  }

  [[nodiscard]] std::uint64_t position() const { return at_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      const int byte = stream_->get();
      if (byte == std::istream::traits_type::eof()) {
        throw Damage{"the file ends inside a number"};
      }
      ++at_;
      value |= shift < 64 ? static_cast<std::uint64_t>(byte & 0x7F) << shift : 0;
      if (byte < 0x80) {
        return value;
      }
    }
    throw Damage{"a number of more than ten bytes"};
  }

  std::istream* stream_;
  std::uint64_t size_;
  std::uint64_t at_ = 0;
};

std::map<std::string, std::string> metadata_of(WireReader& file) {
  std::map<std::string, std::string> metadata;
  bool has_graph = false;
  while (const auto field = file.next(file.size())) {
    has_graph = has_graph || field->number == kGraph;
    if (field->number != kMetadataProps) {
      file.skip(field->bytes);
      continue;
    }
    if (field->bytes > spec::kMaxBytes) {
      throw Damage{"a metadata entry of " + std::to_string(field->bytes) + " bytes"};
    }
    const std::uint64_t end = file.position() + field->bytes;
    std::string parts[3];
    while (const auto part = file.next(end)) {
      parts[part->number < 3 ? part->number : 0] = file.read(part->bytes);
    }
    metadata[parts[1]] = parts[2];
  }
  if (!has_graph) {
    throw Damage{"no graph in it"};
  }
  return metadata;
}

}  // namespace

std::map<std::string, std::string> spec::onnx_metadata(const std::string& path) {
  std::error_code unknown;
  const std::uintmax_t size = std::filesystem::file_size(path, unknown);
  std::ifstream stream(path, std::ios::binary);
  try {
    if (unknown) {
      throw Damage{unknown.message()};
    }
    WireReader reader(stream, size);
    return metadata_of(reader);
  } catch (const Damage& damage) {
    throw ArtifactError(path + " is no ONNX model, or it is truncated", damage.what, {}, "copy or export it again");
  }
}

}  // namespace vitrify
