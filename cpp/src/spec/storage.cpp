#include "storage.hpp"

#include <filesystem>
#include <fstream>

#include "parse.hpp"
#include "text.hpp"
#include "vitrify/spec.hpp"

namespace vitrify {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSpecKey = "vitrify.spec";

void require_readable(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    throw ArtifactError(path + " is a directory", {}, "an .onnx file or a TensorRT engine");
  }
  if (!fs::exists(path, ignored)) {
    throw ArtifactError("no such file: " + path, {}, {}, "check the path");
  }
  if (!fs::is_regular_file(path, ignored)) {
    throw ArtifactError(path + " is no regular file", {}, "an .onnx file or a TensorRT engine");
  }
  if (!std::ifstream(path, std::ios::binary)) {
    throw ArtifactError("cannot read " + path, {}, {}, "check its permissions");
  }
}

ModelSpec spec_in_onnx(const std::string& path) {
  const auto metadata = spec::onnx_metadata(path);
  const auto found = metadata.find(kSpecKey);
  if (found != metadata.end()) {
    return parse_spec(found->second);
  }
  std::vector<std::string> keys;
  keys.reserve(metadata.size());
  for (const auto& [key, value] : metadata) {
    keys.push_back(key);
  }
  throw SpecMissingError(path + " carries no model spec",
                         keys.empty() ? "no metadata" : "metadata keys " + joined(keys), kSpecKey,
                         "make the artifact with `vitrify export CHECKPOINT -o model.onnx`, which writes the spec into "
                         "it");
}

// A TensorRT plan stays plain, so that its spec stands beside it.
ModelSpec spec_in_manifest(const std::string& plan) {
  const std::string path = plan + ".json";
  const std::optional<std::string> text = spec::text_of(path);
  if (!text) {
    throw SpecMissingError(plan + " has no manifest", {}, path + " beside it",
                           "vitrify build MODEL.onnx -o " + plan + ", which writes both");
  }
  const spec::Json data = spec::json_of(*text);
  if (!data.is_object() || !data.contains("spec")) {
    throw ArtifactError(path + " is no manifest of an engine", {}, {}, "build the engine again");
  }
  return spec::spec_of(spec::Value(data["spec"], "spec"));
}

}  // namespace

std::optional<std::string> spec::text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return std::nullopt;
  }
  std::string text;
  std::string part(1 << 16, '\0');
  while (text.size() < kMaxBytes &&
         (file.read(part.data(), static_cast<std::streamsize>(part.size())) || file.gcount() > 0)) {
    text.append(part, 0, static_cast<std::size_t>(file.gcount()));
  }
  return text;
}

ModelSpec read_spec(const std::string& path) {
  require_readable(path);
  const std::string suffix = fs::path(path).extension().string();
  if (suffix == ".onnx") {
    return spec_in_onnx(path);
  }
  if (suffix == ".engine" || suffix == ".plan") {
    return spec_in_manifest(path);
  }
  throw ArtifactError("cannot tell what " + path + " is", "the suffix '" + suffix + "'", ".onnx or .engine or .plan");
}

}  // namespace vitrify
