// The model spec that travels inside an artifact, and its golden vectors: docs/reference/spec.md is the format.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vitrify/export.h"
#include "vitrify/image.hpp"

namespace vitrify {

inline constexpr int kSpecVersion = 2;

// Real images that a reduced precision must have been judged on before anything uses it unasked.
inline constexpr std::int64_t kMinImages = 32;

enum class Precision : std::uint8_t { fp32, bf16, fp16, int8, fp8 };
enum class ElementType : std::uint8_t { float32, float16 };
enum class OutputKind : std::uint8_t { logits, probabilities };
enum class Task : std::uint8_t { single_label, multi_label };

[[nodiscard]] VITRIFY_API const char* name_of(Precision precision) noexcept;

// The network's input: NCHW, three channels R, G, B, any batch. Height and width are the preprocessing's crop.
struct InputSpec {
  std::string name;
  ElementType dtype = ElementType::float32;
};

// The network's output, [batch, labels].
struct OutputSpec {
  std::string name = "logits";
  OutputKind kind = OutputKind::logits;
  Task task = Task::single_label;
};

// Where the weights come from.
struct Source {
  std::string architecture;
  std::string checkpoint;
  std::string checkpoint_sha256;
  std::string dialect;
  std::string created_by;
};

// An input that golden_input makes, and what PyTorch answered to it in fp32, one logit a label.
struct GoldenVector {
  std::uint32_t seed = 0;
  std::uint32_t cell = 1;  // side of the equal-valued squares, in pixels
  std::vector<float> logits;
};

// One comparison of the artifact's record: which runtime, in which arithmetic, on how many real images, and whether the
// gate held. The other fields are checked and not kept.
struct Check {
  std::string runtime;
  Precision precision = Precision::fp32;
  bool on_images = false;
  std::int64_t count = 0;
  bool passed = false;
};

struct ModelSpec {
  InputSpec input;
  Preprocess preprocess;
  OutputSpec output;
  std::vector<std::string> labels;
  Source source;
  Precision precision = Precision::fp32;  // arithmetic of the graph itself
  // 8-bit weights obey the pair rule, so that u8 x s8 products cannot saturate on any x86 processor.
  bool saturation_free = false;
  std::vector<GoldenVector> golden;
  std::vector<Check> checks;  // empty where the artifact has no record
  // Of the whole file with these 64 digits as zeros; empty where the spec is in no such file.
  std::string file_sha256;

  // Floats in one image's tensor: 3 * crop.height * crop.width.
  [[nodiscard]] std::size_t tensor_size() const noexcept {
    return 3 * static_cast<std::size_t>(preprocess.crop.width) * static_cast<std::size_t>(preprocess.crop.height);
  }

  // Whether this runtime held its gate in this precision, on at least kMinImages real images.
  [[nodiscard]] VITRIFY_API bool allows(std::string_view runtime, Precision precision) const noexcept;
};

// Reads a spec's JSON text, strictly. Throws SpecError, which names the field, or SpecVersionError.
[[nodiscard]] VITRIFY_API ModelSpec parse_spec(std::string_view json);

// Reads the spec out of an .onnx file, without the weights, or out of the manifest beside a TensorRT engine. Throws
// ArtifactError, SpecMissingError, SpecError or SpecVersionError.
[[nodiscard]] VITRIFY_API ModelSpec read_spec(const std::string& path);

// The input of a golden vector, [3, size.height, size.width] in [-2, 2): the same bits on every machine. Throws
// OptionError for a cell of 0.
[[nodiscard]] VITRIFY_API std::vector<float> golden_input(Size size, std::uint32_t seed, std::uint32_t cell);

}  // namespace vitrify
