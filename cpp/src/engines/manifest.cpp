#include "manifest.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "parse.hpp"
#include "sha256.hpp"
#include "storage.hpp"
#include "text.hpp"
#include "vitrify/error.hpp"

namespace vitrify::engines {
namespace {

using spec::Fields;
using spec::Value;

constexpr std::int64_t kManifestVersion = 1;

std::optional<Gpu> gpu_of(const Value& value) {
  if (value.is_null()) {
    return std::nullopt;
  }
  const Fields fields(value, {"name", "compute_capability", "memory_bytes", "driver"});
  return Gpu{fields["name"].text(), fields["compute_capability"].text()};
}

Manifest manifest_of(const Value& value) {
  const Fields fields(
      value,
      {"onnx", "onnx_sha256", "plan_sha256", "plan_bytes", "spec", "flavour", "tensorrt", "versions", "gpu",
       "compute_capabilities", "precision", "config", "pinned", "date", "build_seconds", "audit"},
      {"version", "verification", "races"});
  Manifest manifest;
  manifest.plan_sha256 = fields["plan_sha256"].text();
  manifest.plan_bytes = static_cast<std::uint64_t>(fields["plan_bytes"].whole(0, INT64_MAX));
  manifest.spec = spec::spec_of(fields["spec"]);
  manifest.built_by = {fields["flavour"].choice<bool>({{"full", false}, {"rtx", true}}), fields["tensorrt"].text()};
  manifest.gpu = gpu_of(fields["gpu"]);
  manifest.compute_capabilities = fields["compute_capabilities"].list([](const Value& item) { return item.text(); });
  // How it was built, of which only what decides where it runs is read; the rest is Python's.
  const spec::Json& config = fields["config"].json();
  const auto flag = config.find("version_compatible");
  const auto hardware = config.find("hardware_compatible");
  if (!config.is_object() || flag == config.end() || hardware == config.end()) {
    fields["config"].refuse("an object with version_compatible and hardware_compatible");
  }
  manifest.version_compatible = Value(*flag, "manifest.config.version_compatible").flag();
  manifest.hardware_compatible = Value(*hardware, "manifest.config.hardware_compatible").text();
  return manifest;
}

std::vector<int> numbers_of(const std::string& version) {
  std::vector<int> numbers;
  std::istringstream text(version);
  for (std::string part; std::getline(text, part, '.');) {
    if (!part.empty() && part.size() < 9 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      numbers.push_back(std::stoi(part));
    }
  }
  return numbers;
}

bool version_fits(const Manifest& manifest, const std::string& here) {
  if (!manifest.version_compatible) {
    return here == manifest.built_by.version;
  }
  const std::vector<int> mine = numbers_of(here);
  const std::vector<int> built = numbers_of(manifest.built_by.version);
  return !mine.empty() && !built.empty() && mine[0] == built[0] && mine >= built;
}

}  // namespace

Manifest read_manifest(const std::string& plan) {
  const std::string path = plan + ".json";
  const std::string again = "vitrify build MODEL.onnx -o " + plan;
  const std::optional<std::string> text = spec::text_of(path);
  if (!text) {
    throw EngineError(plan + " has no manifest, and a plan can carry code", {}, path + " beside it", again);
  }
  try {
    const spec::Json data = spec::json_of(*text);
    const auto version = data.is_object() ? data.find("version") : data.end();
    if (version == data.end() || *version != kManifestVersion) {
      throw EngineError("the manifest " + path + " has another version",
                        version == data.end() ? "none" : version->dump(), std::to_string(kManifestVersion), again);
    }
    return manifest_of(Value(data, "manifest"));
  } catch (const SpecError& error) {
    throw EngineError("the manifest " + path + " cannot be used: " + error.problem(), error.got(), error.expected(),
                      again);
  }
}

std::string read_plan(const std::string& plan, const Manifest& manifest) {
  std::ifstream file(plan, std::ios::binary);
  if (!file) {
    throw ArtifactError("no such file: " + plan, {}, {}, "check the path");
  }
  std::string bytes(std::filesystem::file_size(plan), '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  Sha256 digest;
  digest.update(bytes.data(), bytes.size());
  if (bytes.size() != manifest.plan_bytes || digest.finish() != manifest.plan_sha256) {
    throw EngineError(
        plan + " is not the plan that its manifest names",
        bytes.size() != manifest.plan_bytes ? std::to_string(bytes.size()) + " bytes" : "the same size, other bytes",
        std::to_string(manifest.plan_bytes) + " bytes with sha256 " + manifest.plan_sha256.substr(0, 12),
        "copy both files again, or: vitrify build " + plan + " --rebuild");
  }
  return bytes;
}

void require_fit(const std::string& plan, const Manifest& manifest, const Release& here, const Gpu& gpu) {
  std::string got;
  std::string expected;
  const auto differs = [&](const std::string& what, const std::string& have, const std::string& want) {
    got += (got.empty() ? "" : "; ") + what + ": " + have;
    expected += (expected.empty() ? "" : "; ") + what + ": " + want;
  };
  const auto product = [](bool rtx) { return rtx ? "TensorRT-RTX" : "TensorRT"; };
  if (here.rtx != manifest.built_by.rtx) {
    differs("TensorRT", product(here.rtx), product(manifest.built_by.rtx));
  } else {
    if (!version_fits(manifest, here.version)) {
      differs("version", here.version, manifest.built_by.version);
    }
    const std::string& mine = gpu.compute_capability;
    const std::vector<std::string>& built_for = manifest.compute_capabilities;
    if (here.rtx) {
      if (std::find(built_for.begin(), built_for.end(), mine) == built_for.end()) {
        differs("compute capability", mine, joined(built_for, " or "));
      }
    } else if (manifest.hardware_compatible == "ampere+") {
      if (numbers_of(mine) < std::vector<int>{8, 0}) {
        differs("compute capability", mine, "8.0 or newer");
      }
    } else if (!manifest.gpu || mine != manifest.gpu->compute_capability) {
      differs("compute capability", mine, manifest.gpu ? manifest.gpu->compute_capability : "unknown");
    } else if (manifest.hardware_compatible == "none" && gpu.name != manifest.gpu->name) {
      differs("GPU", gpu.name, manifest.gpu->name);
    }
  }
  if (!got.empty()) {
    throw EngineError(plan + " was not built for this machine", got, expected, "vitrify build " + plan + " --rebuild");
  }
}

}  // namespace vitrify::engines
