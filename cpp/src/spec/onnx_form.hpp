// Whether an ONNX file holds only what vitrify writes, found out before any runtime parses it.
//
// Runtimes trust an ONNX file: a tensor may name a file of the machine or, to ONNX Runtime and OpenVINO, an address of
// the process; control flow and functions nest without end. Nothing of that is in an exported ViT. So an artifact is a
// single flat graph of known operators with its weights inside; what else there is, is a reason to refuse the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace vitrify::spec {

constexpr std::size_t kMostNodes = 8192;      // ViT-g has 1,400; OpenVINO takes seconds for 5,000
constexpr std::size_t kMostTensors = 16384;   // initializers
constexpr std::size_t kMostNameBytes = 4096;  // of a tensor, a node, an attribute
constexpr std::size_t kMostAxes = 8;          // of a tensor
constexpr std::size_t kMostMetadataBytes = 64u << 20;

struct OnnxFault {
  std::string got;       // what the file holds
  std::string expected;  // what an artifact holds there
};

// The first thing that is wrong with a file, or nothing. Reads each byte at most once and allocates nothing that grows
// with the file.
[[nodiscard]] std::optional<OnnxFault> onnx_fault(const std::uint8_t* data, std::size_t size);

// Throws ArtifactError for a file that holds anything else, or that cannot be read.
void require_known_form(const std::string& path);

// The bytes of such a file: what trusts them is given these, not a path under which other ones may lie by then.
[[nodiscard]] std::string known_content(const std::string& path);

// Throws ArtifactError for a file whose bytes are not those that it was written with: the SHA-256 of all of them, with
// the digest's own 64 digits as zeros. An empty digest holds it to nothing.
void require_sealed(const std::string& path, const std::string& sha256);

}  // namespace vitrify::spec
